"""Folders of generated data: complete or absent, and generated again only if something differs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def checksum(folder: Path, record_name: str) -> str:
    """Hashes the names and contents of all files in a folder, except its record."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != record_name):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_record(folder: Path, record_name: str) -> dict[str, Any] | None:
    """Reads the record of how a folder was generated; None if there is no valid record."""
    try:
        record = json.loads((folder / record_name).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def is_up_to_date(
    folder: Path, record_name: str, settings: Mapping[str, Any], command: str, force: bool = False
) -> bool:
    """Checks whether a folder exists that was generated with these settings, and is intact.

    Args:
        folder: The folder.
        record_name: Name of its record, a JSON file in it that describes how it was generated.
        settings: Everything that its contents depend on, as JSON returns it.
        command: Name of the command that generates it, for error messages.
        force: Accept a folder that was generated with other settings, which may then be replaced.

    Raises:
        ValueError: If the folder has other contents, or was generated with other settings and `force` is False.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    record = read_record(folder, record_name) if folder.is_dir() else None
    if record is None:
        raise ValueError(f"{folder} exists and was not made by {command}; choose another folder with --out.")
    if record.get("settings") != settings and not force:
        raise ValueError(
            f"{folder} was made with other settings ({record.get('settings')}); --force replaces it, --out chooses "
            "another folder."
        )
    return record.get("settings") == settings and record.get("sha256") == checksum(folder, record_name)


def write_folder(
    folder: Path, record_name: str, files: Iterable[tuple[str, bytes]], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes a folder under a temporary name and then renames it, so that a folder of this name is always complete.

    Args:
        folder: The folder. An existing one is replaced.
        record_name: Name of its record.
        files: Relative path and content of each file.
        record: Content of the record, without the checksum.

    Returns:
        The record with the checksum.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = temporary / "new"
        for name, content in files:
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        written = {**record, "sha256": checksum(new, record_name)}
        (new / record_name).write_text(json.dumps(written, indent=2) + "\n")
        if folder.exists():
            os.replace(folder, temporary / "replaced")
        os.replace(new, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return written
