"""Another process that holds a lock."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLD = """
import sys
from attnzoo.zoo.folder_lock import FolderLock
with FolderLock(sys.argv[1], sys.argv[2], ""):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def lock_in_another_process(folder: Path, name: str) -> Iterator[subprocess.Popen]:
    """Context manager in which another process holds a lock of a folder; yields the process."""
    command = [sys.executable, "-c", HOLD, folder, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()
