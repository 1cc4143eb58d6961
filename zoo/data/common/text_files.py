"""Reads text and JSON files that users write, with errors that name the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: If the file cannot be read, or is not JSON.
    """
    content = _read(path)
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{os.fspath(path)} is not valid JSON: it is nested too deeply.") from error


def read_lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Reads the lines of a text file in UTF-8, without those that are empty.

    Returns:
        (number, line) of each line, counting from 1, without surrounding whitespace.

    Raises:
        ValueError: If the file cannot be read, or is not text.
    """
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(_read(path).removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{os.fspath(path)}, line {number}: it is not text in UTF-8 ({error}).") from error
        if "\0" in text:
            raise ValueError(f"{os.fspath(path)}, line {number}: it has a null character, so it is not text in UTF-8.")
        if text:
            lines.append((number, text))
    return lines


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.") from error
