"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file atomically: readers see the complete old or the complete new content, even after a power failure.

    Args:
        path: Path of the file. Missing folders are created.
        content: Content of the file.

    Returns:
        The path of the file.

    Raises:
        OSError: The file cannot be written, for example because the disk is full. An existing file is left unchanged.
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
    """Writes a text file in UTF-8 atomically, see `write_bytes`."""
    return write_bytes(path, content.encode())


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = 2) -> Path:
    """Writes JSON atomically, see `write_bytes`; numbers that are not finite raise a ValueError."""
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def temporary_name(path: Path) -> Path:
    """Returns the hidden path, unique to this process, under which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Removes temporary files that killed processes left in a folder."""
    for path in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Flushes the entries of a folder to disk, so that a renaming survives a power failure, if the system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        # Some network file systems cannot flush a folder; the file itself is already on disk.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
