"""Checkpoint files that survive: written atomically, verified, holding plain types only.

A file is a dict of plain Python types and tensors, so that `torch.load(..., weights_only=True)` takes it without any
allow-list. No config and no code is in it: the config stands beside it as text (`config.py`) and is never run from a
checkpoint.

    format             CHECKPOINT_FORMAT
    meta               epoch, iter, step_in_epoch, seed, world_size, metrics, ...
    state_dict         the model's, plain keys
    ema_state_dict     the averaged weights under the same keys, where averaging is on
    optimizer, param_schedulers, random_states (one entry a process), hooks, message_hub
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...deprecated_paths import renamed_names
from ..files import sync_folder, temporary_name
from ..weights.reading import CheckpointError
from ..work_dir import CHECKPOINT_FORMAT, read_training_checkpoint


class CheckpointWriteError(CheckpointError, OSError):
    """A checkpoint could not be written."""


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
        CheckpointWriteError: The disk is full, or what was read back is not what was written. An existing file of that
            name is left unchanged.
    """
    path = Path(path)
    temporary = temporary_name(path)
    plain = {"format": CHECKPOINT_FORMAT, **to_plain(state)}
    try:
        try:
            with open(temporary, "wb") as file:
                torch.save(plain, file)
                file.flush()
                os.fsync(file.fileno())
            # Before the file takes its name, so that a bad write never replaces a good file.
            read_training_checkpoint(temporary, mmap=True)
            os.replace(temporary, path)
        except (CheckpointError, OSError, RuntimeError) as error:
            raise CheckpointWriteError(f"Could not write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


__getattr__ = renamed_names(
    __name__,
    {
        "FORMAT": "zoo.work_dir.CHECKPOINT_FORMAT",
        "LAST": "zoo.work_dir.LAST_CHECKPOINT",
        "PATTERNS": "zoo.work_dir.CHECKPOINT_PATTERNS",
        "find_best": "zoo.work_dir.find_best",
        "find_latest": "zoo.work_dir.find_latest",
        "list_checkpoints": "zoo.work_dir.list_checkpoints",
        "read_checkpoint": "zoo.work_dir.read_training_checkpoint",
    },
)
