"""Which checkpoint a training goes on from, and what becomes of those that it does not go on from."""

from __future__ import annotations

import logging
from pathlib import Path

from ..weights.reading import CheckpointError
from ..work_dir import (
    CHECKPOINT_PATTERNS,
    EARLIER_PREFIX,
    LAST_CHECKPOINT,
    NONFINITE_BATCHES,
    SCALARS,
    TENSORBOARD,
    find_latest,
    list_checkpoints,
)
from .distributed import gather_objects, is_main_process


def find_resume(wanted: bool | str, work_dir: str | Path, logger: logging.Logger) -> Path | None:
    """Finds the checkpoint to go on from; process 0 decides which, and all must call it.

    Args:
        wanted: False for none, True for the newest that is whole in the work dir, or the path of a checkpoint, or of a
            folder in which to look.
        work_dir: the run's work dir.
        logger: is told what was skipped and why.

    Returns:
        The checkpoint; None where none is wanted, and where there is none at all (so that a job that schedulers start
        again and again can always ask to resume).

    Raises:
        CheckpointError: the path does not exist, or there are checkpoints, but none is whole.
    """
    if not wanted:
        return None
    folder = Path(work_dir)
    if isinstance(wanted, str):
        folder = Path(wanted)
        if not folder.exists():
            raise CheckpointError(f"resume={wanted!r}: there is no such file or folder.")
        if folder.is_file():
            return folder
    path: Path | None = None
    skipped: dict[Path, str] = {}
    if is_main_process():
        path, _, skipped = find_latest(folder)
    path, skipped = gather_objects((path, skipped))[0]
    for reason in skipped.values():
        logger.warning(f"Skipped while looking for a checkpoint to resume from: {reason}")
    if path is None:
        if skipped:
            raise CheckpointError(f"None of the {len(skipped)} checkpoint(s) in {folder} is intact.")
        logger.info(f"No checkpoint in {folder} to resume from: training starts from the beginning.")
    return path


def set_aside(work_dir: str | Path, iteration: int | None, timestamp: str, logger: logging.Logger) -> None:
    """Moves what an earlier training left in a work dir, and this one does not go on from, out of its way.

    Args:
        work_dir: the run's work dir.
        iteration: where this training goes on from in that work dir: checkpoints after it are in the way. None where it
            starts anew, or from elsewhere: everything is.
        timestamp: names the folder in it that they are moved to.
        logger: is told where they are.
    """
    folder = Path(work_dir)
    if iteration is None:
        names = (*CHECKPOINT_PATTERNS, LAST_CHECKPOINT, SCALARS, NONFINITE_BATCHES, TENSORBOARD)
        old = [path for pattern in names for path in folder.glob(pattern)]
    else:
        old = [path for path, meta in list_checkpoints(folder)[0] if meta["iter"] > iteration]
    if not old:
        return
    aside = folder / f"{EARLIER_PREFIX}{timestamp}"
    aside.mkdir(exist_ok=True)
    for path in old:
        path.rename(aside / path.name)
    logger.warning(
        f"{folder} holds another training, or a later part of this one, that this run does not go on from: "
        f"{len(old)} file(s) and folder(s) of it move to {aside}."
    )
