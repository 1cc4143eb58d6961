"""Finds weight files from a path, a folder, a URL or a repository on the Hugging Face hub."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from ...deprecated_paths import renamed_names
from ...names import nearest_names
from .checksums import hash_in_name, sha256_of
from .download import ChecksumError, download
from .hub import HubRepository, fetch_from_hub

_logger = logging.getLogger(__name__)

__getattr__ = renamed_names(__name__, {"HubName": "HubRepository"})

# safetensors first, because such a file cannot run code.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.pth", "model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


def split_source(source: str) -> tuple[str, str]:
    """Splits a source into its kind ("hf-hub", "local-dir", "url" or "path") and the remainder.

    Raises:
        ValueError: The source is a URL of another scheme.
    """
    kind, colon, rest = source.partition(":")
    kind = kind.lower().replace("hf_hub", "hf-hub")
    if colon and kind in ("hf-hub", "local-dir"):
        return kind, rest
    if colon and kind in ("http", "https"):
        return "url", source
    if colon and kind == "file":
        return "path", rest.removeprefix("//")
    if colon and rest.startswith("//"):
        raise ValueError(
            f"{source!r} is not supported: weights come from a path, an http or https URL, 'hf-hub:owner/name' or "
            "'local-dir:folder'."
        )
    return "path", source


def fetch(
    source: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    filename: str | None = None,
    sha256: str | None = None,
    progress: bool = True,
) -> Path:
    """Returns the local path of a weight file, after downloading it if necessary.

    Args:
        source: Path of a file or folder, an http or https URL, `hf-hub:owner/name[@revision]` or `local-dir:folder`.
        cache_dir: Cache folder, see `checkpoints_dir`.
        filename: File of a repository or folder; by default the first that exists of `model.safetensors`,
            `pytorch_model.bin` and other usual names.
        sha256: Checksum of the file, or at least its first 8 hexadecimal digits. By default files behind a URL must
            match the digits at the end of their names ("resnet50-0676ba61.pth"), and local files that do not are
            reported.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The source has an unknown form.
        ChecksumError: The file has another checksum.
        FileNotFoundError: There is no such file or folder, or no weight file in the folder.
        DownloadError: The download failed; the message explains how to put the file in place manually.
    """
    kind, rest = split_source(os.fspath(source))
    if kind == "url":
        return download(rest, cache_dir=cache_dir, sha256=sha256, progress=progress)
    if kind == "hf-hub":
        names = [filename] if filename else WEIGHT_FILES
        return _verified(fetch_from_hub(HubRepository.parse(rest), names, cache_dir, progress), sha256)
    path = Path(rest).expanduser()
    if kind == "local-dir" and not path.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")
    if path.is_dir():
        return _verified(_weight_file_in(path, filename), sha256)
    if not path.exists():
        raise FileNotFoundError(missing_path_message(path, "file"))
    return _verified(path, sha256)


def _verified(path: Path, sha256: str | None) -> Path:
    """Returns the path of a file after comparing it with its checksum, or with that in its name."""
    expected = sha256 or hash_in_name(path.name)
    if expected is None or (actual := sha256_of(path)).startswith(expected.lower()):
        return path
    if sha256 is not None:
        raise ChecksumError(f"{str(path)!r} is not the published file: its sha256 is {actual}, expected {sha256}.")
    _logger.warning(
        "%s may be damaged: its sha256 starts with %s, but its name ends with %s.",
        path,
        actual[: len(expected)],
        expected,
    )
    return path


def missing_path_message(path: Path, what: str) -> str:
    """Builds an error message for a path that does not exist; it suggests similar names in the same folder.

    Args:
        path: The path.
        what: What was looked for, such as "file".
    """
    message = f"There is no {what} {str(path)!r}."
    folder = path.parent
    if not folder.is_dir():
        return f"{message} There is no folder {str(folder)!r} either."
    nearest = nearest_names(path.name, sorted(entry.name for entry in folder.iterdir()))
    suggestions = " or ".join(repr(str(folder / name)) for name in nearest)
    return f"{message} Did you mean {suggestions}?" if nearest else message


def _weight_file_in(folder: Path, filename: str | None) -> Path:
    """Chooses the weight file of a folder: one with a usual name, or the only one with a usual suffix."""
    for name in [filename] if filename else WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    candidates = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and entry.name.endswith(_SUFFIXES))
    if filename is None and len(candidates) == 1:
        return folder / candidates[0]
    problem = f"There is no {filename!r}" if filename else "It is not clear which file to load"
    raise FileNotFoundError(f"{problem} in {str(folder)!r}. Weight files in it: {', '.join(candidates) or 'none'}.")


def read_model_config(source: str, cache_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Reads the `config.json` that timm writes next to a model's weights.

    Args:
        source: `hf-hub:owner/name[@revision]` or `local-dir:folder`.
        cache_dir: Cache folder, see `checkpoints_dir`.

    Returns:
        The content of the file, which has at least the key "architecture".

    Raises:
        ValueError: The file is not valid JSON, or has no architecture.
        FileNotFoundError: There is no such folder, or no `config.json` in it.
        DownloadError: The download failed.
    """
    kind, rest = split_source(source)
    if kind == "hf-hub":
        path = fetch_from_hub(HubRepository.parse(rest), ["config.json"], cache_dir, progress=False)
    else:
        path = Path(rest).expanduser() / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r}, which should contain the model's architecture.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise ValueError(f"{str(path)!r} has no key 'architecture' with a model's name, as timm's files have.")
    return config
