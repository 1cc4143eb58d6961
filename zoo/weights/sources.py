"""Where weights come from: a path, an address, a repository of the Hugging Face hub, a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .download import DownloadError, checkpoints_dir, download, is_offline

# In this order, because a safetensors file cannot run anything.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.pth", "model.bin")
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


@dataclass(frozen=True)
class HubName:
    """A repository of the Hugging Face hub, as `owner/name` or `owner/name@revision`."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Reads `owner/name[@revision]`.

        Raises:
            ValueError: it is not of that form.
        """
        repository, _, revision = text.partition("@")
        if repository.count("/") != 1 or not all(repository.split("/")):
            raise ValueError(f"{text!r} names no repository of the Hugging Face hub: 'hf-hub:owner/name' is expected.")
        return cls(repository, revision or None)

    def by_hand(self, filename: str, cache_dir: str | os.PathLike[str] | None) -> Path:
        """Says where a file of it is looked for before the network is asked."""
        folder = checkpoints_dir(cache_dir) / "hf-hub" / self.repository
        return (folder / self.revision if self.revision else folder) / filename

    def address(self, filename: str) -> str:
        """Says where a browser finds a file of it."""
        end_point = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        return f"{end_point.rstrip('/')}/{self.repository}/resolve/{self.revision or 'main'}/{filename}"


def split_source(source: str) -> tuple[str, str]:
    """Takes a source apart into its kind ("hf-hub", "local-dir", "url" or "path") and the rest."""
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
            f"{source!r} is not fetched: weights come from a path, an http or https address, 'hf-hub:owner/name' or "
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
    """Brings a weight file onto this machine.

    Args:
        source: a path (of a file, or of a folder that holds one), an http or https address,
            `hf-hub:owner/name[@revision]` or `local-dir:folder`.
        cache_dir: where downloads are kept, see `checkpoints_dir`.
        filename: which file of a repository or folder; by default the first there is of `model.safetensors`,
            `pytorch_model.bin`, ...
        sha256: the checksum of a file that is downloaded by address.
        progress: whether to show a progress bar.

    Returns:
        The path of the file.

    Raises:
        ValueError: the source is of no known kind.
        FileNotFoundError: there is no such file or folder, or no weight file in it.
        DownloadError: it could not be fetched; the message says what to fetch by hand and where to put it.
    """
    kind, rest = split_source(os.fspath(source))
    if kind == "url":
        return download(rest, cache_dir=cache_dir, sha256=sha256, progress=progress)
    if kind == "hf-hub":
        return fetch_from_hub(HubName.parse(rest), [filename] if filename else WEIGHT_FILES, cache_dir, progress)
    path = Path(rest).expanduser()
    if kind == "local-dir" and not path.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")
    if path.is_dir():
        return _weight_file_in(path, filename)
    if not path.exists():
        raise FileNotFoundError(_no_file(path))
    return path


def _no_file(path: Path) -> str:
    message = f"There is no file {str(path)!r}."
    folder = path.parent
    if not folder.is_dir():
        return f"{message} There is no folder {str(folder)!r} either."
    from ...names import nearest_names

    near = nearest_names(path.name, sorted(entry.name for entry in folder.iterdir()))
    return f"{message} Did you mean {' or '.join(repr(str(folder / name)) for name in near)}?" if near else message


def _weight_file_in(folder: Path, filename: str | None) -> Path:
    """Picks the weight file of a folder: a usual name, or the only one with a usual ending."""
    for name in [filename] if filename else WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    there = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and entry.name.endswith(_ENDINGS))
    if filename is None and len(there) == 1:
        return folder / there[0]
    what = f"There is no {filename!r}" if filename else "It is not clear which file to load"
    raise FileNotFoundError(f"{what} in {str(folder)!r}; weight files there: {', '.join(there) or 'none'}.")


def fetch_from_hub(
    name: HubName,
    filenames: Sequence[str],
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Brings the first file of a hub repository that exists onto this machine.

    A file put by hand at the path that the error message names comes before the network.

    Args:
        name: the repository.
        filenames: which files to try, best first.
        cache_dir: where to keep it; by default where huggingface_hub keeps its own.
        progress: whether to show a progress bar.

    Returns:
        The path of the file.

    Raises:
        DownloadError: none of them could be fetched.
    """
    for filename in filenames:
        placed = name.by_hand(filename, cache_dir)
        if placed.is_file():
            return placed
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    unreachable: Exception | None = None
    quiet = not progress and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        for filename in filenames:
            try:
                return Path(
                    hf_hub_download(
                        name.repository,
                        filename,
                        revision=name.revision,
                        cache_dir=None if cache_dir is None else Path(cache_dir).expanduser(),
                        endpoint=os.environ.get("HF_ENDPOINT"),
                        local_files_only=is_offline(),
                    )
                )
            except LocalEntryNotFoundError as error:
                unreachable = error
                if not is_offline():  # the hub cannot be reached; offline, another name may be in the cache
                    break
            except EntryNotFoundError:
                unreachable = None
            except RepositoryNotFoundError as error:
                raise DownloadError(
                    _hub_by_hand(name, filenames[0], cache_dir, "there is no such repository, or it is private")
                ) from error
            except Exception as error:  # huggingface_hub passes on what its HTTP library raises
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise DownloadError(_hub_by_hand(name, filename, cache_dir, reason)) from error
    finally:
        if quiet:
            enable_progress_bars()
    if unreachable is not None:
        reason = "the network is switched off" if is_offline() else "the hub cannot be reached"
        raise DownloadError(_hub_by_hand(name, filenames[0], cache_dir, reason)) from unreachable
    raise DownloadError(
        f"'hf-hub:{name.repository}' holds none of {', '.join(filenames)}; say which file with filename=."
    )


def _hub_by_hand(name: HubName, filename: str, cache_dir: str | os.PathLike[str] | None, reason: str) -> str:
    return (
        f"Could not fetch {filename!r} of 'hf-hub:{name.repository}': {reason}.\nFetch {name.address(filename)} by "
        f"hand, for instance with a browser on another machine, and put it at\n"
        f"    {name.by_hand(filename, cache_dir)}\nthen run the same call again."
    )


def read_model_config(source: str, cache_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Reads the `config.json` that timm writes beside a model's weights.

    Args:
        source: `hf-hub:owner/name[@revision]` or `local-dir:folder`.
        cache_dir: where downloads are kept.

    Returns:
        Its content, with at least the key "architecture".

    Raises:
        ValueError: the file is there and names no architecture.
        FileNotFoundError: the folder, or the file in it, is missing.
        DownloadError: it could not be fetched.
    """
    kind, rest = split_source(source)
    if kind == "hf-hub":
        path = fetch_from_hub(HubName.parse(rest), ["config.json"], cache_dir, progress=False)
    else:
        path = Path(rest).expanduser() / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r}, which should name the model's architecture.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise ValueError(f"{str(path)!r} has no key 'architecture' that names a model, as timm's files have.")
    return config
