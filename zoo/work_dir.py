"""Names of the files in a work dir, and functions that read them.

Training and evaluation write these files; inference, analysis and the tools read them without importing the training
code.

    config.py                 the config, as text
    classes.json              class names by label
    epoch_N.pth, iter_N.pth   checkpoints; best_METRIC.pth are those of the best evaluations
    last_checkpoint           name of the newest checkpoint
    scalars.jsonl             logged scalars; tensorboard/ holds the same as event files
    nonfinite_batches.json    batches whose loss or gradient was not finite
    broken_images.json        images that could not be read
    learning_curve.png        loss, learning rate and validation metrics
    results.json              an evaluation's metrics
    predictions.json          an evaluation's predictions
    confusion.json            an evaluation's per-class metrics and confusion matrix
    earlier_TIMESTAMP/        files of an earlier training
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from .weights.errors import CheckpointError
from .weights.reading import safe_load

CONFIG = "config.py"
CLASS_NAMES = "classes.json"
CHECKPOINT_PATTERNS = ("epoch_*.pth", "iter_*.pth", "best_*.pth")
BEST_PREFIX = "best_"
LAST_CHECKPOINT = "last_checkpoint"
SCALARS = "scalars.jsonl"
TENSORBOARD = "tensorboard"
NONFINITE_BATCHES = "nonfinite_batches.json"
BROKEN_IMAGES = "broken_images.json"
LEARNING_CURVE = "learning_curve.png"
RESULTS = "results.json"
PREDICTIONS = "predictions.json"
CONFUSION = "confusion.json"
EARLIER_PREFIX = "earlier_"

CHECKPOINT_FORMAT = "attnzoo.training/1"
"""Value of the entry "format" in training checkpoints, see `training.checkpoint`."""


_ACCESS_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}


class CheckpointAccessError(OSError):
    """A checkpoint that may be intact cannot be opened, so that falling back to an older one would lose work."""


def read_training_checkpoint(
    path: str | os.PathLike[str], *, mmap: bool = False, verify: bool = True
) -> dict[str, Any]:
    """Reads a checkpoint that training wrote.

    Args:
        path: Path of the file.
        mmap: Map tensors from the file instead of loading them into memory.
        verify: Compare every byte with the digest in the file first.

    Raises:
        CheckpointError: The file is missing, truncated or damaged, or is not a training checkpoint of attnzoo.
        CheckpointAccessError: The file may be intact, but cannot be opened.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        if error.errno in _ACCESS_ERRORS:
            raise CheckpointAccessError(
                f"Cannot open {path}, which may be intact: {error.strerror}. Correct this and try again."
            ) from error
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error
    state = safe_load(path, verify=verify, mmap=mmap)
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of attnzoo.")
    iteration = state["meta"].get("iter") if isinstance(state.get("meta"), dict) else None
    if type(iteration) is not int or iteration < 0:
        raise CheckpointError(f"{path} is damaged: meta.iter must be an integer >= 0, got {iteration!r}.")
    return state


def list_checkpoints(folder: str | os.PathLike[str]) -> tuple[list[tuple[Path, dict[str, Any]]], dict[Path, str]]:
    """Lists the checkpoints in a work dir without verifying their checksums.

    Returns:
        Paths with their `meta`, newest first (by iteration, then by modification time), and the files that cannot be
        opened, with the reason.

    Raises:
        CheckpointAccessError: A file may be intact, but cannot be opened.
    """
    checkpoints, unreadable = [], {}
    for pattern in CHECKPOINT_PATTERNS:
        for path in Path(folder).glob(pattern):
            try:
                meta = read_training_checkpoint(path, mmap=True, verify=False)["meta"]
                checkpoints.append((meta["iter"], path.stat().st_mtime_ns, path, meta))
            except (CheckpointError, FileNotFoundError) as error:
                unreadable[path] = str(error)
    checkpoints.sort(key=lambda item: item[:2], reverse=True)
    return [(path, meta) for _, _, path, meta in checkpoints], unreadable


def find_latest(folder: str | os.PathLike[str]) -> tuple[Path | None, dict[str, Any], dict[Path, str]]:
    """Finds the newest intact checkpoint in a work dir.

    Returns:
        Its path and state (None and {} if there is none), and the files that were skipped, with the reason.
    """
    checkpoints, skipped = list_checkpoints(folder)
    for path, _ in checkpoints:
        try:
            return path, read_training_checkpoint(path), skipped
        except CheckpointError as error:
            skipped[path] = str(error)
    return None, {}, skipped


def find_best(folder: str | os.PathLike[str]) -> Path:
    """Finds the checkpoint of the best evaluation in a work dir, or else the newest intact one.

    Raises:
        ValueError: The folder has no intact checkpoint, or that of the best evaluation is damaged.
    """
    best = [path for path, _ in list_checkpoints(folder)[0] if path.name.startswith(BEST_PREFIX)]
    if best:
        return best[0]
    path, _, skipped = find_latest(folder)
    if path is None:
        raise ValueError(" ".join([f"There is no intact checkpoint in {folder}.", *skipped.values()]))
    damaged = [reason for file, reason in skipped.items() if file.name.startswith(BEST_PREFIX)]
    if damaged:
        raise ValueError(f"{damaged[0]} Remove it, or choose another checkpoint: the newest intact one is {path}.")
    return path


def read_class_names(work_dir: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the class names of the training data, by label; empty if training did not write any.

    Raises:
        ValueError: The file does not contain a list of names.
    """
    path = Path(work_dir) / CLASS_NAMES
    if not path.is_file():
        return ()
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must contain a list of names.")
    return tuple(names)


def read_scalars(work_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the logged scalars, in order: records with "mode" ("train" or "val"), "epoch", "iter" and the values.

    Lines that a killed process left incomplete are skipped. Without a log, the list is empty.
    """
    path = Path(work_dir) / SCALARS
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def read_results(work_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the metrics of an evaluation; empty if there are none, or the file cannot be read."""
    try:
        results = json.loads((Path(work_dir) / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}
