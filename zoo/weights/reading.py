"""Reads checkpoint files without running any code in them.

A pickle is a program. Therefore files are read as safetensors, or by an unpickler that knows only tensors and a few
harmless types, see `unpickling` and `pickled_types`. The format is detected from the content, because suffixes such as
`.pth`, `.bin` and `.pth.tar` do not determine it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from .digests import verify_digest
from .errors import CheckpointError
from .pickled_types import Allowed
from .torch_files import load_legacy, load_zip

__all__ = ["Allowed", "CheckpointError", "read_checkpoint", "safe_load"]

_PICKLE_START = b"\x80"
_ZIP_START = b"PK\x03\x04"
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
_LFS_START = b"version https://git-lfs"


def safe_load(
    path: str | os.PathLike[str], extra_allowed: Iterable[Allowed] = (), *, verify: bool = True, mmap: bool = False
) -> Any:
    """Reads a checkpoint file: safetensors, torch's zip format, or torch's older pickle format.

    Args:
        path: Path of the file.
        extra_allowed: Further classes and functions that its pickle may use, as `torch.serialization.safe_globals`
            takes them. The file can call any of them.
        verify: Compare every byte with the checksums in the file, see `digests`.
        mmap: Map the tensors of torch's zip format from the file instead of reading them.

    Returns:
        The object that was saved, with its tensors on the CPU; for safetensors, the dict of tensors.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is empty, truncated or damaged, is not a checkpoint, or uses a class that is not
            allowed (none of its code has run then).
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a folder, not a checkpoint file.")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f"{str(path)!r} is empty.")
    if start.lstrip().lower().startswith(_HTML_STARTS):
        raise CheckpointError(
            f"{str(path)!r} is a web page, not a checkpoint: the link probably leads to a page that asks to confirm "
            "the download. Download the file itself with a browser."
        )
    if start.startswith(_LFS_START):
        raise CheckpointError(f"{str(path)!r} is a Git LFS pointer, not the checkpoint: run `git lfs pull`.")
    if _is_safetensors(start):
        if verify:
            verify_digest(path)
        return _load_safetensors(path)
    if _is_tar(start):
        raise CheckpointError(
            f"{str(path)!r} is a tar archive, torch's format of 2016, which cannot be read without running its code. "
            "If you trust it, convert it once: torch.save(torch.load(path, weights_only=False), new_path)."
        )
    if not start.startswith((_PICKLE_START, _ZIP_START)):
        raise CheckpointError(
            f"{str(path)!r} is neither a safetensors file nor one that torch.save wrote (it starts with {start[:8]!r})."
        )
    verified = verify_digest(path) if verify else True
    return _load_torch(path, start.startswith(_ZIP_START), extra_allowed, verified, mmap)


def _is_safetensors(start: bytes) -> bool:
    """Recognizes safetensors: the length of the header in 8 bytes, followed by the header in JSON."""
    return len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 2**31


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except Exception as error:  # a damaged file can cause any exception
        raise CheckpointError(
            f"{str(path)!r} is truncated or damaged ({path.stat().st_size} bytes): {_first_line(error)}"
        ) from error


def _load_torch(path: Path, zipped: bool, extra_allowed: Iterable[Allowed], verified: bool, mmap: bool) -> Any:
    # What the user allowed for torch.load is allowed here, too.
    allowed = [*torch.serialization.get_safe_globals(), *extra_allowed]
    try:
        return load_zip(path, allowed, check=not verified, mmap=mmap) if zipped else load_legacy(path, allowed)
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r} {error}.") from error
    except Exception as error:  # a damaged file can cause any exception
        raise CheckpointError(
            f"{str(path)!r} is truncated or damaged ({path.stat().st_size} bytes), or a pickle that torch.save did not "
            f"write. If it was downloaded, delete it and download it again. ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint file that contains a mapping, as every form of published weights does.

    Args:
        path: Path of the file.

    Returns:
        The mapping as it was saved. `extract_state_dict` finds the weights in it.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: As for `safe_load`, or the file contains something other than a mapping.
    """
    content = safe_load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{str(path)!r} contains a {type(content).__name__}, not a dict of weights.")
    return dict(content)
