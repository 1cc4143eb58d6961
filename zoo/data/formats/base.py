"""What a reader of users' data sets provides: the recognition of a layout on disk, and its content."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypeVar

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
