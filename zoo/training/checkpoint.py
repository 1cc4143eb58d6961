"""Writing training checkpoints: atomic, verified, with plain types only.

A checkpoint is a dict of plain Python types and tensors, so `torch.load(..., weights_only=True)` reads it without an
allow-list. It contains neither config nor code: the config is a text file in the same folder (`config.py`). The file
ends with a digest of its content, see `weights.digests`.

    format             CHECKPOINT_FORMAT
    meta               epoch, iter, step_in_epoch, seed, world_size, metrics, `Preprocessing`, ...
    state_dict         state dict of the model
    ema_state_dict     averaged weights under the same keys, if training averages weights
    optimizer, param_schedulers, random_states (one entry per process), hooks, message_hub
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
from ..weights.digests import save_with_digest
from ..weights.errors import CheckpointError
from ..work_dir import CHECKPOINT_FORMAT, read_training_checkpoint


class CheckpointWriteError(CheckpointError, OSError):
    """A checkpoint could not be written."""


def to_plain(value: Any, where: str = "state") -> Any:
    """Converts a state to plain types: dict, list, tuple, str, bytes, int, float, bool, None and CPU tensors.

    Args:
        value: Nested containers. NumPy scalars become Python scalars, NumPy arrays become tensors.
        where: Name of the value in error messages.

    Raises:
        TypeError: A value has another type.
    """
    if value is None or type(value) in (str, bytes, bool, int, float):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # Saving a view would save its complete storage.
        return value.clone() if value.untyped_storage().nbytes() != value.nbytes else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"Keys in a checkpoint must be str or int, got {key!r} in {where}.")
        return {key: to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return tuple(to_plain(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(f"Values in a checkpoint must have plain types, got a {type(value).__name__} at {where}.")


def write_checkpoint(state: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Writes a checkpoint atomically: at any moment the file is either the complete old one or the complete new one.

    The new file is written under a temporary name, flushed to disk and read back before it is renamed.

    Args:
        state: The state, converted with `to_plain`.
        path: Path of the file.

    Raises:
        CheckpointWriteError: The disk is full or read-only, memory or file descriptors are used up, or what was read
            back is not what was written. An existing file of that name is left unchanged.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        try:
            plain = {"format": CHECKPOINT_FORMAT, **to_plain(state)}
            with open(temporary, "wb") as file:
                save_with_digest(plain, file)
                file.flush()
                os.fsync(file.fileno())
            # Verified before renaming, so that a bad write never replaces a good file.
            read_training_checkpoint(temporary, mmap=True)
            os.replace(temporary, path)
        except (CheckpointError, OSError, RuntimeError, MemoryError) as error:
            raise CheckpointWriteError(f"Could not write {path}: {str(error) or 'out of memory'}") from error
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
