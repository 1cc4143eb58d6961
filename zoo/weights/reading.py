"""Reads checkpoint files without running any code in them.

A pickle is a program. Therefore files are read as safetensors, or by torch's restricted unpickler with a short, fixed
list of harmless classes that official checkpoints contain besides tensors. The format is detected from the content,
because suffixes such as `.pth`, `.bin` and `.pth.tar` do not determine it.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .digests import verify_digest
from .errors import CheckpointError

__all__ = ["Allowed", "CheckpointError", "read_checkpoint", "safe_load"]

_PICKLE_START = b"\x80"
_ZIP_START = b"PK\x03\x04"
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
_LFS_START = b"version https://git-lfs"
_LOCK = threading.Lock()  # torch has one list of allowed classes per process

Allowed = Callable[..., Any] | tuple[Callable[..., Any], str]
"""A class or function that a pickle may name, with its full name if that differs, as `safe_globals` takes it."""


def _harmless_classes() -> list[Allowed]:
    """Returns the classes and functions that a pickle may use in addition to torch's own.

    They build plain values and cannot run other code. numpy 2 moved `numpy.core` to `numpy._core`; files written by
    either version can be read by both.
    """
    allowed: list[Allowed] = [
        argparse.Namespace,
        np.dtype,
        np.ndarray,
        # Swin's training script and its many descendants save their settings. They are read as plain dicts.
        (OrderedDict, "yacs.config.CfgNode"),
    ]
    build_scalar: Any = np.float64(0).__reduce__()[0]
    build_array: Any = np.zeros(0).__reduce__()[0]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(build_scalar, f"{module}.scalar"), (build_array, f"{module}._reconstruct")]
    # A dtype is built as numpy.dtype("f8"), but its state is set on an instance of one of these classes.
    allowed += [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSU"]
    return allowed


def safe_load(path: str | os.PathLike[str], extra_allowed: Iterable[Allowed] = ()) -> Any:
    """Reads a checkpoint file: safetensors, torch's zip format, or torch's older pickle format.

    Args:
        path: Path of the file.
        extra_allowed: Further classes and functions that its pickle may use, as `torch.serialization.safe_globals`
            takes them. The file can call any of them.

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
    verify_digest(path)
    return _load_pickle(path, extra_allowed)


def _is_safetensors(start: bytes) -> bool:
    """Recognizes safetensors: the length of the header in 8 bytes, followed by the header in JSON."""
    return len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 2**31


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{str(path)!r} is truncated or damaged ({path.stat().st_size} bytes): {error}"
        ) from error


def _load_pickle(path: Path, extra_allowed: Iterable[Allowed]) -> Any:
    with _LOCK:
        # On exit the context manager removes all it was given, so skip what the user had allowed before.
        present = torch.serialization.get_safe_globals()
        allowed = [item for item in [*_harmless_classes(), *extra_allowed] if item not in present]
        try:
            # An open file, because torch.load chooses the format of a path by its suffix.
            with torch.serialization.safe_globals(allowed), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal_message(path, str(error))) from error
        except Exception as error:  # a damaged file can cause any exception
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{str(path)!r} is truncated or damaged ({path.stat().st_size} bytes), or a pickle that torch.save "
                f"did not write. If it was downloaded, delete it and download it again. ({reason})"
            ) from error


def _refusal_message(path: Path, message: str) -> str:
    """Builds the error message that names the class at which the restricted unpickler stopped."""
    message = message.partition("WeightsUnpickler error:")[2].strip() or message
    found = re.search(r"GLOBAL (\S+)", message) or re.search(r"(?:but got|function) (.+)", message)
    if found is None:
        reason = message.splitlines()[0] if message else "no reason given"
        return f"{str(path)!r} is not a pickle of plain data, or is damaged: {reason}"
    return (
        f"{str(path)!r} contains {found.group(1)}, which is not loaded, because a file could run code with it. None of "
        "the file's code was run. If you trust its source, save its tensors alone once: "
        "torch.save(torch.load(path, weights_only=False)['state_dict'], new_path)."
    )


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
