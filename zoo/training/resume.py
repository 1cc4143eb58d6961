"""Finding the checkpoint to resume from, and moving files of an earlier training out of the way."""

from __future__ import annotations

import logging
from pathlib import Path

from ...deprecated_paths import renamed_names
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


def find_resume_checkpoint(resume: bool | str, work_dir: str | Path, logger: logging.Logger) -> Path | None:
    """Finds the checkpoint to resume from; process 0 decides which one, and all processes must call this.

    Args:
        resume: False for none, True for the newest intact checkpoint in the work dir, or the path of a checkpoint or of
            another work dir.
        work_dir: Work dir of the run.
        logger: Logs which checkpoints were skipped and why.

    Returns:
        The path; None if `resume` is False or there are no checkpoints. A job that is restarted by a scheduler can
        therefore always ask to resume.

    Raises:
        CheckpointError: The path does not exist, or there are checkpoints but none is intact.
    """
    if not resume:
        return None
    folder = Path(work_dir)
    if isinstance(resume, str):
        folder = Path(resume)
        if not folder.exists():
            raise CheckpointError(f"resume={resume!r}: there is no such file or folder.")
        if folder.is_file():
            return folder
    path: Path | None = None
    skipped: dict[Path, str] = {}
    if is_main_process():
        path, _, skipped = find_latest(folder)
    path, skipped = gather_objects((path, skipped))[0]
    for reason in skipped.values():
        logger.warning(f"Skipped a checkpoint while looking for one to resume from: {reason}")
    if path is None:
        if skipped:
            raise CheckpointError(f"None of the {len(skipped)} checkpoint(s) in {folder} is intact.")
        logger.info(f"There is no checkpoint in {folder} to resume from: training starts from scratch.")
    return path


def set_aside_earlier_files(
    work_dir: str | Path, iteration: int | None, timestamp: str, logger: logging.Logger
) -> None:
    """Moves files of an earlier training, which this run does not continue, to a subfolder of the work dir.

    Args:
        work_dir: Work dir of the run.
        iteration: Iteration from which this run resumes in the work dir: only checkpoints after it are moved. None if
            it starts from scratch or from another folder: everything is moved.
        timestamp: Part of the name of the subfolder.
        logger: Logs where the files are.
    """
    folder = Path(work_dir)
    if iteration is None:
        names = (*CHECKPOINT_PATTERNS, LAST_CHECKPOINT, SCALARS, NONFINITE_BATCHES, TENSORBOARD)
        old = [path for pattern in names for path in folder.glob(pattern)]
    else:
        old = [path for path, meta in list_checkpoints(folder)[0] if meta["iter"] > iteration]
    if not old:
        return
    subfolder = folder / f"{EARLIER_PREFIX}{timestamp}"
    subfolder.mkdir(exist_ok=True)
    for path in old:
        path.rename(subfolder / path.name)
    logger.warning(
        f"{folder} contains another training, or a later part of this one, which this run does not continue: moved "
        f"{len(old)} file(s) and folder(s) to {subfolder}."
    )


__getattr__ = renamed_names(__name__, {"find_resume": "find_resume_checkpoint", "set_aside": "set_aside_earlier_files"})
