"""Locks that keep two processes from writing their results into the same folder."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TRAINING_LOCK = ".training.lock"
RESULTS_LOCK = ".results.lock"

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""Errors of file systems without locks."""

_held: set[int] = set()


def _close_in_child() -> None:
    """Closes the inherited locks of a forked process, which could outlive its parent as data loader workers do."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class FolderInUse(ValueError):
    """Another process holds the lock of a folder."""


class FolderLock:
    """Context manager that holds a lock of a folder.

    The operating system releases it when the process ends, however it ends. While the lock is held, the lock file
    contains the process, its host and start time as JSON. On file systems without locks, a warning is issued and the
    folder is not locked.

    Args:
        folder: The folder, which is created if it is missing.
        name: Name of the lock file: `TRAINING_LOCK` for trainings, `RESULTS_LOCK` for evaluations and predictions.
        advice: What to do if the folder is in use, a sentence.

    Raises:
        FolderInUse: Another process holds the lock. The message names it.
        OSError: The lock file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, advice: str) -> None:
        self.path = Path(folder) / name
        self.advice = advice
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        if fcntl is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = self._lock(fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if descriptor is None:
            return self
        self._descriptor = descriptor
        _held.add(descriptor)
        started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        with contextlib.suppress(OSError):  # such as a full disk; the lock holds anyway
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        return self

    def _lock(self, flock: Callable[[int, int], None], operation: int) -> int | None:
        """Opens and locks the file; returns its descriptor, or None if the file system has no locks."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                flock(descriptor, operation)
            except OSError as error:
                holder = _describe_holder(descriptor)
                os.close(descriptor)
                if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                    raise FolderInUse(f"{self.path.parent} is in use by {holder}. {self.advice}") from None
                if error.errno not in _UNSUPPORTED:
                    raise
                # Python's default filter shows it once per place and text.
                warnings.warn(
                    f"{self.path.parent} cannot be locked ({error.strerror}): make sure that no other process writes "
                    f"into this folder.",
                    stacklevel=3,
                )
                return None
            # A holder that just finished may have removed the file after it was opened here.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor
            os.close(descriptor)

    def __exit__(self, *exc_info: object) -> None:
        if fcntl is not None and self._descriptor is not None:
            _held.discard(self._descriptor)
            with contextlib.suppress(OSError):
                self.path.unlink()
            # Explicitly, because a process that is just being forked has not closed its copy yet.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None


def _describe_holder(descriptor: int) -> str:
    """Describes the process that holds a lock, from the content of the lock file."""
    try:
        holder: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, which started {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
