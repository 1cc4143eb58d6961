"""Reading a checkpoint file without running anything that it carries.

A pickle is a program. Files are therefore read as safetensors, or by torch's restricted unpickler with a short, fixed
list of harmless classes that official checkpoints carry beside their tensors. The form is told from the content, not
from the file's name, because `.pth`, `.bin` and `.pth.tar` say little.
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

_PICKLE_START = b"\x80"
_ZIP_START = b"PK\x03\x04"
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
_LFS_START = b"version https://git-lfs"
_LOCK = threading.Lock()  # torch's list of allowed classes is one per process

Allowed = Callable[..., Any] | tuple[Callable[..., Any], str]


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or carries what is not loaded."""


def _harmless() -> list[Allowed]:
    """Lists what a pickle may name beside torch's own: it builds plain values and can run nothing else.

    numpy 2 moved `numpy.core` to `numpy._core`; files of both are read by both.
    """
    allowed: list[Allowed] = [
        argparse.Namespace,
        np.dtype,
        np.ndarray,
        # Swin's training script and its many descendants store their settings; read as the dict that they are.
        (OrderedDict, "yacs.config.CfgNode"),
    ]
    build_scalar: Any = np.float64(0).__reduce__()[0]
    build_array: Any = np.zeros(0).__reduce__()[0]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(build_scalar, f"{module}.scalar"), (build_array, f"{module}._reconstruct")]
    # A dtype is built as numpy.dtype("f8"), but its state is set on an instance of one of these.
    allowed += [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSU"]
    return allowed


def safe_load(path: str | os.PathLike[str], extra_allowed: Iterable[Allowed] = ()) -> Any:
    """Reads a checkpoint file: safetensors, a torch zip archive, or torch's older pickle format.

    Args:
        path: the file.
        extra_allowed: further classes and functions that its pickle may name, as `torch.serialization.safe_globals`
            takes them. Whatever stands here can be called by the file.

    Returns:
        What was saved, its tensors on the CPU. For safetensors, the dict of tensors.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is empty, cut off or damaged, is no checkpoint, or names a class that is not loaded
            (nothing of it has then been run).
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a folder, not a checkpoint file.")
    with path.open("rb") as file:
        start = file.read(512)
    size = path.stat().st_size
    if not start:
        raise CheckpointError(f"{str(path)!r} is empty.")
    if start.lstrip().lower().startswith(_HTML_STARTS):
        raise CheckpointError(
            f"{str(path)!r} is a web page, not a checkpoint: the link probably leads to a page on which the download "
            "has to be confirmed. Fetch the file itself with a browser."
        )
    if start.startswith(_LFS_START):
        raise CheckpointError(f"{str(path)!r} is a Git LFS pointer, not the checkpoint: run `git lfs pull`.")
    if _is_safetensors(start):
        return _load_safetensors(path, size)
    if _is_tar(start):
        raise CheckpointError(
            f"{str(path)!r} is a tar archive, torch's format of 2016, which cannot be read without running it. "
            "Convert it once, where you trust it: torch.save(torch.load(path, weights_only=False), new_path)."
        )
    if not start.startswith((_PICKLE_START, _ZIP_START)):
        raise CheckpointError(
            f"{str(path)!r} is neither a safetensors file nor one that torch.save wrote (it starts with {start[:8]!r})."
        )
    return _load_pickle(path, extra_allowed)


def _is_safetensors(start: bytes) -> bool:
    """Safetensors: the header's length in 8 bytes, then the header, which is JSON."""
    return len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 2**31


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _load_safetensors(path: Path, size: int) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} is cut off or damaged ({size} bytes): {error}") from error


def _load_pickle(path: Path, extra_allowed: Iterable[Allowed]) -> Any:
    with _LOCK:
        # The context manager takes off the list what it was given; what its user had put there must stay.
        present = torch.serialization.get_safe_globals()
        allowed = [item for item in [*_harmless(), *extra_allowed] if item not in present]
        try:
            # An open file, because from a path torch.load takes the format from the name.
            with torch.serialization.safe_globals(allowed), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal(path, str(error))) from error
        except Exception as error:  # a damaged file can trip the reader anywhere
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{str(path)!r} is cut off or damaged ({path.stat().st_size} bytes), or a pickle that torch.save "
                f"did not write; if it was downloaded, delete it and fetch it again. ({reason})"
            ) from error


def _refusal(path: Path, message: str) -> str:
    """Names the class at which the restricted unpickler stopped."""
    message = message.partition("WeightsUnpickler error:")[2].strip() or message
    found = re.search(r"GLOBAL (\S+)", message) or re.search(r"(?:but got|function) (.+)", message)
    if found is None:
        reason = message.splitlines()[0] if message else "no reason given"
        return f"{str(path)!r} is not a pickle of plain data, or is damaged: {reason}"
    name = found.group(1)
    return (
        f"{str(path)!r} carries {name}, which is not loaded, because a file could run code with it. Nothing of the "
        "file was run. If you trust its source, keep its tensors alone, once: "
        "torch.save(torch.load(path, weights_only=False)['state_dict'], new_path)."
    )


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint file that holds a mapping, as every form of published weights does.

    Args:
        path: the file.

    Returns:
        The mapping as it was saved; `extract_state_dict` finds the weights in it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: as for `safe_load`, and where something else than a mapping was saved.
    """
    content = safe_load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{str(path)!r} holds a {type(content).__name__}, not a dict of weights.")
    return dict(content)
