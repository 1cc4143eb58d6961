"""What a reader of users' data sets provides: the recognition of a layout on disk, and its content."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import ClassVar, TypeVar

from ....names import unknown_name
from ..common.paths import missing_path
from .contents import Content


class DataFormat:
    """A layout of data sets. Subclasses are registered with `register_format`.

    Attributes:
        name: Name for messages and options, such as "class folders".
        layout: The layout in one line, for the message that lists all formats.
    """

    name: ClassVar[str]
    layout: ClassVar[str]

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether a file or folder has this layout. It looks at names, not into images, and is fast."""
        raise NotImplementedError

    @classmethod
    def read(cls, root: Path) -> Content:
        """Reads what is annotated.

        Raises:
            ValueError: The content contradicts itself or is damaged; the message names the file.
        """
        raise NotImplementedError


Format = TypeVar("Format", bound=DataFormat)

FORMATS: dict[str, type[DataFormat]] = {}
"""The registered formats by name, in the order in which they are tried: the most specific first."""


def register_format(kind: type[Format]) -> type[Format]:
    """Class decorator that adds a format.

    Raises:
        ValueError: There is another format of this name.
    """
    if FORMATS.get(kind.name, kind) is not kind:
        raise ValueError(f"There is a format {kind.name!r} already: {FORMATS[kind.name].__qualname__}.")
    FORMATS[kind.name] = kind
    return kind


def read_data(data: str | os.PathLike[str], format: str | None = None) -> tuple[str, Content]:
    """Recognizes the format of a data set by the files that are there, and reads it.

    Args:
        data: Path of the folder or file.
        format: Name of a format in `FORMATS`, if the recognition is not wanted.

    Returns:
        Name of the format, and the content.

    Raises:
        ValueError: There is nothing, its format is not known, or its content is wrong.
    """
    root = Path(data).expanduser()
    if not root.exists():
        raise ValueError(missing_path("data", root))
    if format is not None and format not in FORMATS:
        raise ValueError(unknown_name("data format", format, FORMATS))
    name = format or next((name for name, kind in FORMATS.items() if kind.recognizes(root)), None)
    if name is None:
        layouts = "\n".join(f"  {name}: {kind.layout}" for name, kind in FORMATS.items())
        raise ValueError(f"The format of {root} is not known: it contains {_contents(root)}. Known formats:\n{layouts}")
    return name, FORMATS[name].read(root.resolve())


def _contents(root: Path) -> str:
    """Describes what is in a folder, for messages."""
    if root.is_file():
        return "a file"
    suffixes: collections.Counter[str] = collections.Counter()
    folders = 0
    for entry in root.iterdir():
        if entry.is_dir():
            folders += 1
        else:
            suffixes[entry.suffix.lower()] += 1
    parts = [f"{folders} folders"] if folders else []
    parts += [f"{count} files {suffix or 'without a suffix'}" for suffix, count in suffixes.most_common(5)]
    return ", ".join(parts) or "nothing"
