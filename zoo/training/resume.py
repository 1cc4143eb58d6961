"""Finding the checkpoint to resume from, and moving files of an earlier training out of the way."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...deprecated_paths import renamed_names
from ..weights.errors import CheckpointError
from ..work_dir import (
    CHECKPOINT_PATTERNS,
    EARLIER_PREFIX,
    LAST_CHECKPOINT,
    NONFINITE_BATCHES,
    SCALARS,
    TENSORBOARD,
    CheckpointAccessError,
    list_checkpoints,
    read_training_checkpoint,
)
from .checkpoint_structure import check_structure, fail
from .distributed import gather_objects, is_main_process
from .resume_checks import check_fit, check_identity


class ResumeCandidates:
    """The checkpoints from which a run may resume, newest first; all processes must call the same methods.

    Process 0 lists them. A checkpoint is skipped, with a warning, if any process finds that it is damaged.

    Args:
        resume: False for none, True for the checkpoints in the work dir, or the path of a checkpoint or of another work
            dir.
        work_dir: Work dir of the run.
        logger: Logs which checkpoints are skipped and why.

    Attributes:
        skipped: Checkpoints that were skipped, with the reason.

    Raises:
        CheckpointError: The path does not exist.
        CheckpointAccessError: A checkpoint cannot be opened, but may be intact.
    """

    def __init__(self, resume: bool | str, work_dir: str | Path, logger: logging.Logger) -> None:
        self._logger = logger
        self._folder: Path | None = Path(work_dir) if resume else None
        self._paths: list[Path] = []
        self.skipped: dict[Path, str] = {}
        if isinstance(resume, str):
            self._folder = Path(resume)
            if not self._folder.exists():
                raise CheckpointError(f"resume={resume!r}: there is no such file or folder.")
        if self._folder is None:
            return
        if self._folder.is_file():
            self._paths = [self._folder]
            return
        found: tuple[list[Path], dict[Path, str]] = [], {}
        error = None
        if is_main_process():
            try:
                checkpoints, unreadable = list_checkpoints(self._folder)
                found = [path for path, _ in checkpoints], unreadable
            except CheckpointAccessError as caught:
                error = str(caught)
        (self._paths, unreadable), error = gather_objects((found, error))[0]
        if error is not None:
            raise CheckpointAccessError(error)
        for path, reason in unreadable.items():
            self._skip(path, reason)

    def next(self) -> tuple[Path, dict[str, Any]] | None:
        """Reads the next checkpoint that is complete in itself.

        Returns:
            Its path and content; None if resuming was not requested or there are no checkpoints. A job that is
            restarted by a scheduler can therefore always ask to resume.

        Raises:
            CheckpointError: There are checkpoints, but all were skipped.
            CheckpointAccessError: A checkpoint cannot be opened, but may be intact.
        """
        while self._paths:
            path = self._paths.pop(0)
            state: dict[str, Any] = {}
            problem: str | None = None
            inaccessible = False
            try:
                state = read_training_checkpoint(path)
                check_structure(state)
            except (CheckpointError, CheckpointAccessError) as error:
                problem, inaccessible = str(error), isinstance(error, CheckpointAccessError)
            found = gather_objects((problem, inaccessible))
            problem, inaccessible = next((one for one in found if one[0] is not None), (None, False))
            if inaccessible:
                raise CheckpointAccessError(problem)
            if problem is None:
                return path, state
            self._skip(path, problem if str(path) in problem else f"{path} is damaged: {problem}")
        if self.skipped:
            raise CheckpointError(self._refusal())
        if self._folder is not None:
            self._logger.info(f"There is no checkpoint in {self._folder} to resume from: training starts from scratch.")
        return None

    def choose(self, runner: Any, found: tuple[Path, dict[str, Any]] | None) -> tuple[Path, dict[str, Any]] | None:
        """Returns the first checkpoint that fits a run.

        Args:
            runner: The Runner, with its training loop, optimizer and schedules built.
            found: The checkpoint to begin with, as `next` returned it.

        Raises:
            ResumeMismatch: The run differs from the one that wrote the checkpoint, which an older one would not change.
            CheckpointError: No checkpoint fits.
        """
        while found is not None:
            path, state = found
            check_identity(runner, path, state["meta"])
            problem = None
            try:
                check_fit(runner, state)
                if state["meta"]["seed"] != runner.seed:
                    fail("meta.seed", f"{runner.seed} as in the newest checkpoint", state["meta"]["seed"])
            except CheckpointError as error:
                problem = f"{path} does not fit this config: {error}"
            problem = next((one for one in gather_objects(problem) if one is not None), None)
            if problem is None:
                return found
            self._skip(path, problem)
            found = self.next()
        return None

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped[path] = reason
        self._logger.warning(f"Skipped a checkpoint while looking for one to resume from: {reason}")

    def _refusal(self) -> str:
        reasons = " ".join(self.skipped.values())
        ways = "set load_from to start from the weights of one, without resume"
        assert self._folder is not None
        if self._folder.is_file():
            return f"{reasons} Resume from another checkpoint, or {ways}."
        return (
            f"None of the {len(self.skipped)} checkpoint(s) in {self._folder} can be resumed. {reasons} Correct the "
            f"config, {ways}, or start from scratch without --resume, which moves these files to a subfolder."
        )


def set_aside_earlier_files(
    work_dir: str | Path,
    iteration: int | None,
    timestamp: str,
    logger: logging.Logger,
    skipped: Iterable[Path] = (),
) -> None:
    """Moves files of an earlier training, which this run does not continue, to a subfolder of the work dir.

    Args:
        work_dir: Work dir of the run.
        iteration: Iteration from which this run resumes in the work dir: only checkpoints after it are moved. None if
            it starts from scratch or from another folder: everything is moved.
        timestamp: Part of the name of the subfolder.
        logger: Logs where the files are.
        skipped: Checkpoints that are damaged or do not fit; those in the work dir are moved, too.
    """
    folder = Path(work_dir)
    if iteration is None:
        names = (*CHECKPOINT_PATTERNS, LAST_CHECKPOINT, SCALARS, NONFINITE_BATCHES, TENSORBOARD)
        old = [path for pattern in names for path in folder.glob(pattern)]
    else:
        later = [path for path, meta in list_checkpoints(folder)[0] if meta["iter"] > iteration]
        own = [path for path in skipped if path.parent.resolve() == folder.resolve() and path.exists()]
        old = list(dict.fromkeys([*later, *own]))
    if not old:
        return
    subfolder = folder / f"{EARLIER_PREFIX}{timestamp}"
    subfolder.mkdir(exist_ok=True)
    for path in old:
        path.rename(subfolder / path.name)
    logger.warning(
        f"{folder} contains another training, or a part of this one, which this run does not continue: moved "
        f"{len(old)} file(s) and folder(s) to {subfolder}."
    )


__getattr__ = renamed_names(__name__, {"set_aside": "set_aside_earlier_files"})
