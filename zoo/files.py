"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file so that readers see the old content or the new one, never a part, also after a power cut.

    Args:
        path: where to; missing folders are made.
        content: the file's bytes.

    Returns:
        The path written.

    Raises:
        OSError: the disk is full, say; what had that name before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path


def write_text(path: str | os.PathLike[str], content: str) -> Path:
    """Writes a text file in UTF-8, as `write_bytes` does."""
    return write_bytes(path, content.encode())


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = 2) -> Path:
    """Writes `content` as JSON, as `write_bytes` does; numbers that are not finite raise a ValueError."""
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def temporary_name(path: Path) -> Path:
    """Names a file beside another, hidden and of this process alone, to be written before it takes the other's name."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Removes what killed writers left in a folder."""
    for path in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a file's new name survives a power cut, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        # Some file systems of networks cannot flush a folder; the file itself is safe already.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
