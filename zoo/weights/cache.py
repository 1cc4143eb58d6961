"""Where downloaded weights are kept, and whether the network may be used."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def checkpoints_dir(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder that downloaded weights are kept in.

    Args:
        cache_dir: The folder itself, if the caller chose one.

    Returns:
        `cache_dir`, or `$ATTNZOO_HOME/checkpoints`, or the folder that torch.hub uses
        (`$TORCH_HOME/hub/checkpoints`, by default `~/.cache/torch/hub/checkpoints`).
    """
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    home = os.environ.get("ATTNZOO_HOME")
    if home:
        return Path(home).expanduser() / "checkpoints"
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints"


def is_offline() -> bool:
    """Reports whether ATTNZOO_OFFLINE or HF_HUB_OFFLINE is set to a true value."""
    return any(
        os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")
        for name in ("ATTNZOO_OFFLINE", "HF_HUB_OFFLINE")
    )


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None, filename: str | None = None) -> Path:
    """Returns the path that a URL is, or will be, downloaded to.

    Args:
        url: URL of the file.
        cache_dir: Cache folder, see `checkpoints_dir`.
        filename: File name in the cache; by default the last part of the URL's path.

    Returns:
        The path. A hash of the URL is appended to the name if a file from another URL has this name, or if the URL
        does not end in a file name.
    """
    folder = checkpoints_dir(cache_dir)
    name = filename or unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.+-]", "_", name)
    url_hash = hashlib.sha256(url.encode()).hexdigest()[:8]
    if "." not in name.strip("."):
        return folder / f"{name or 'weights'}-{url_hash}.pth"
    if read_json(origin_path(folder / name)).get("url") in (None, url):
        return folder / name
    stem, dot, suffix = name.partition(".")
    return folder / f"{stem}-{url_hash}{dot}{suffix}"


def origin_path(path: Path) -> Path:
    """Returns the path of the JSON file that records the URL a cached file was downloaded from."""
    return path.with_name(path.name + ".origin.json")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; a file that is missing or holds something else counts as an empty one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
