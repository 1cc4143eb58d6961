"""Small files written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file so that readers see the old content or the new one, never a part.

    Args:
        path: where to; missing folders are made.
        content: the file's bytes.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that nobody else may read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = 2) -> Path:
    """Writes `content` as JSON, whole or not at all; numbers that are not finite raise a ValueError."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return write_bytes(path, (text + "\n").encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
