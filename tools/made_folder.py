"""Folders of generated data: written whole or not at all, and made anew only where something differs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attnzoo.tools.arguments import UserError


def checksum(folder: Path, record_name: str) -> str:
    """Hashes the names and bytes of all files below a folder, except for its record."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != record_name):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_record(folder: Path, record_name: str) -> dict[str, Any] | None:
    """Reads how a folder was made; None where it was not made by a tool, or not finished."""
    try:
        record = json.loads((folder / record_name).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def is_up_to_date(out: Path, record_name: str, settings: Mapping[str, Any], force: bool) -> bool:
    """Tells whether a folder is there already, made with these settings and undamaged.

    Args:
        out: the folder.
        record_name: name of its record, a JSON file in it that says how it was made.
        settings: everything that its contents depend on, as JSON gives it back.
        force: a folder that was made with other settings may be replaced.

    Raises:
        ValueError: the folder holds something else, or was made with other settings and `force` is off.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    record = read_record(out, record_name) if out.is_dir() else None
    tool = f"make_{Path(record_name).stem}"
    if record is None:
        raise UserError(f"{out} exists and was not made by {tool}; choose another folder with --out.")
    if record.get("settings") != settings and not force:
        raise UserError(
            f"{out} was made with other settings ({record.get('settings')}); --force replaces it, --out chooses "
            "another folder."
        )
    return record.get("settings") == settings and record.get("sha256") == checksum(out, record_name)


def write_folder(
    out: Path, record_name: str, files: Iterable[tuple[str, bytes]], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes a folder beside its place and moves it there in one step, so that what has its name is always complete.

    Args:
        out: the folder; what was there is replaced.
        record_name: name of the record in it.
        files: relative path and content of each file.
        record: what the record says, besides the checksum.

    Returns:
        The record.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        fresh = workshop / "fresh"
        for name, content in files:
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        written = {**record, "sha256": checksum(fresh, record_name)}
        (fresh / record_name).write_text(json.dumps(written, indent=2) + "\n")
        if out.exists():
            os.replace(out, workshop / "replaced")
        os.replace(fresh, out)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return written
