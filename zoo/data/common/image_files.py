"""Finds image files in folders: which suffixes are those of images, and which folders are visited."""

from __future__ import annotations

import collections
import os
from collections.abc import Collection, Iterator

from PIL import Image

from .decoding import image_formats

EXAMPLE_SUFFIXES = ".jpg, .png, .webp or .tif"
"""For messages; `image_suffixes` has dozens."""


def image_suffixes() -> frozenset[str]:
    """Returns the suffixes of image files, such as ".jpg", in lower case: those of all formats that PIL decodes."""
    formats = {*image_formats(), "MPO"}  # PIL decodes MPO as JPEG
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


class ImageFinder:
    """Searches folders for files by their suffixes, visits each real folder once, and counts what it leaves out.

    Symbolic links to folders are followed, except to folders that were visited before, so that a link to a folder above
    does not repeat its images. Hidden files and folders are left out, and not counted.

    Args:
        suffixes: Suffixes of the files to find, in lower case with their dots; None finds images.

    Attributes:
        left_out: Number of files with other suffixes, by suffix.
    """

    def __init__(self, suffixes: Collection[str] | None = None) -> None:
        self.suffixes = image_suffixes() if suffixes is None else frozenset(suffixes)
        self.left_out: collections.Counter[str] = collections.Counter()
        self._visited: dict[str, str] = {}

    def visit(self, folder: str | os.PathLike[str]) -> str | None:
        """Marks a folder as visited.

        Returns:
            The path under which it was visited before; None if it was not.
        """
        path = os.fspath(folder)
        real = os.path.realpath(path)
        if real in self._visited:
            return self._visited[real]
        self._visited[real] = path
        return None

    def find(self, folder: str | os.PathLike[str]) -> Iterator[str]:
        """Finds the files in a folder and in those below it.

        Yields:
            Their paths, which begin with `folder`, sorted by name within a folder.

        Raises:
            ValueError: If a folder cannot be listed.
        """
        self.visit(folder)
        for place, folders, files in os.walk(folder, onerror=_raise_unlisted, followlinks=True):
            paths = [os.path.join(place, name) for name in sorted(folders) if not name.startswith(".")]
            # A folder takes precedence over a link to it beside it.
            paths.sort(key=os.path.islink)
            folders[:] = [os.path.basename(path) for path in paths if self.visit(path) is None]
            for name in sorted(files):
                if self.matches(name):
                    yield os.path.join(place, name)

    def matches(self, name: str) -> bool:
        """Reports whether a file is to be found, by its name, and counts it otherwise."""
        if name.startswith("."):
            return False
        suffix = os.path.splitext(name)[1].lower()
        if suffix in self.suffixes:
            return True
        self.left_out[suffix] += 1
        return False

    def summary(self, folder: str | os.PathLike[str], kind: str = "images") -> str | None:
        """Returns a sentence for the log about the files that were left out; None if there are none.

        Args:
            folder: Folder that was searched.
            kind: What was searched for.
        """
        if not self.left_out:
            return None
        counts = [f"{count} {suffix or 'without a suffix'}" for suffix, count in self.left_out.most_common(10)]
        others = self.left_out.total() - sum(count for _, count in self.left_out.most_common(10))
        more = [f"{others} others"] if others else []
        return f"{os.fspath(folder)}: left out files that are not read as {kind}: {', '.join([*counts, *more])}."


def _raise_unlisted(error: OSError) -> None:
    raise ValueError(f"The folder {error.filename} cannot be listed: {error.strerror}.") from error
