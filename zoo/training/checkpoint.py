"""Checkpoint files that survive: written atomically, verified, holding plain types only.

A file is a dict of plain Python types and tensors, so that `torch.load(..., weights_only=True)` takes it without any
allow-list. No config and no code is in it: the config stands beside it as text (`config.py`) and is never run from a
checkpoint.

    format             FORMAT
    meta               epoch, iter, step_in_epoch, seed, world_size, metrics, ...
    state_dict         the model's, plain keys
    ema_state_dict     the averaged weights under the same keys, where averaging is on
    optimizer, param_schedulers, random_states (one entry a process), hooks, message_hub
"""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import sync_folder, temporary_name

FORMAT = "attnzoo.training/1"

PATTERNS = ("epoch_*.pth", "iter_*.pth", "best_*.pth")
"""Names of checkpoint files in a work dir."""

LAST = "last_checkpoint"
"""Text file in a work dir: the name of the newest checkpoint that was written and verified."""


class CheckpointError(OSError):
    """A checkpoint could not be written, or a file is no valid checkpoint."""


def to_plain(value: Any, where: str = "state") -> Any:
    """Turns a state into plain types: dict, list, tuple, str, bytes, int, float, bool, None and CPU tensors.

    Args:
        value: nested containers; NumPy scalars become Python's, NumPy arrays become tensors.
        where: what it is, for the message.

    Raises:
        TypeError: something in it is of another type; the message says where.
    """
    if value is None or type(value) in (str, bytes, bool, int, float):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # A view would take the whole storage behind it into the file.
        return value.clone() if value.untyped_storage().nbytes() != value.nbytes else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"A checkpoint's keys are str or int, not {key!r} in {where}.")
        return {key: to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return tuple(to_plain(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(f"A checkpoint holds plain types only, not a {type(value).__name__} at {where}.")


def write_checkpoint(state: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Writes a checkpoint so that the file of that name is at any moment the old one or the new one, whole.

    The new file is written under another name, flushed to the disk and read back; only then it takes its name.

    Args:
        state: what `to_plain` takes.
        path: the file.

    Raises:
        CheckpointError: the disk is full, or what was read back is not what was written. What had that name before is
            untouched.
    """
    path = Path(path)
    temporary = temporary_name(path)
    plain = {"format": FORMAT, **to_plain(state)}
    try:
        try:
            with open(temporary, "wb") as file:
                torch.save(plain, file)
                file.flush()
                os.fsync(file.fileno())
            # Before the file takes its name, so that a bad write never replaces a good file.
            read_checkpoint(temporary, mapped=True)
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"Could not write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def peek_checkpoint(path: str | os.PathLike, mapped: bool = True) -> dict[str, Any]:
    """Opens a checkpoint without holding its bytes against their checksums.

    Args:
        path: the file.
        mapped: leave the tensors in the file and map them, which reads next to nothing now.

    Raises:
        CheckpointError: the file is cut off, or is not a training checkpoint of this project.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of this project.")
    return state


def read_checkpoint(path: str | os.PathLike, mapped: bool = False) -> dict[str, Any]:
    """Reads a checkpoint and holds every byte against its checksum.

    Args:
        path: the file.
        mapped: see `peek_checkpoint`.

    Raises:
        CheckpointError: the file is cut off, a byte is wrong, or it is not a training checkpoint of this project.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if wrong is not None:
        raise CheckpointError(f"{path} is damaged: {wrong} does not match its checksum.")
    return peek_checkpoint(path, mapped)


def list_checkpoints(folder: str | os.PathLike) -> tuple[list[tuple[Path, dict[str, Any]]], dict[Path, str]]:
    """Finds the checkpoints in a work dir.

    Returns:
        Paths with their `meta`, newest first (by iteration, then by time of writing), and the files that cannot be
        opened, with the reason. Damage inside a file is not looked for.
    """
    found, broken = [], {}
    for pattern in PATTERNS:
        for path in Path(folder).glob(pattern):
            try:
                found.append((path, peek_checkpoint(path)["meta"]))
            except CheckpointError as error:
                broken[path] = str(error)
    found.sort(key=lambda item: (item[1]["iter"], item[0].stat().st_mtime_ns), reverse=True)
    return found, broken


def find_latest(folder: str | os.PathLike) -> tuple[Path | None, dict[str, Any], dict[Path, str]]:
    """Finds the newest checkpoint in a work dir that is whole.

    Returns:
        Its path and state (None and {} where there is none), and what was skipped, with the reason.
    """
    found, skipped = list_checkpoints(folder)
    for path, _ in found:
        try:
            return path, read_checkpoint(path), skipped
        except CheckpointError as error:
            skipped[path] = str(error)
    return None, {}, skipped


def find_best(folder: str | os.PathLike) -> Path:
    """Finds the best checkpoint in a work dir, or else its newest whole one.

    Raises:
        ValueError: there is none.
    """
    best = [path for path, _ in list_checkpoints(folder)[0] if path.name.startswith("best_")]
    if best:
        return best[0]
    path, _, skipped = find_latest(folder)
    if path is None:
        raise ValueError(f"There is no whole checkpoint in {folder}." + "".join(f" {why}" for why in skipped.values()))
    return path
