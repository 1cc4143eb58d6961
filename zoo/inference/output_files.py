"""Files that are written for predictions: their paths, and atomic writing of images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from ..files import temporary_name
from .results import Result


class OutputPaths:
    """Chooses a path for each output image. No path is chosen twice, and none of a protected file.

    Args:
        inputs: Inputs of the prediction. Images from a folder keep their paths relative to it.
        protected: Resolved paths of files that must not be overwritten, such as the inputs.
    """

    def __init__(self, inputs: Sequence[str], protected: Collection[Path]) -> None:
        self._roots = [Path(given).expanduser().resolve() for given in inputs if Path(given).expanduser().is_dir()]
        self._protected = protected
        self._used: set[str] = set()

    def choose(self, folder: Path, result: Result) -> Path:
        """Returns the path in `folder` of the PNG for a result."""
        assert result.path is not None, "results of files and URLs have a path"
        name = Path(urlsplit(result.path).path if "://" in result.path else result.path)
        resolved = name.resolve()
        root = next((root for root in self._roots if resolved.is_relative_to(root)), None)
        relative = resolved.relative_to(root) if root is not None else Path(name.name)
        stem, number = relative.with_suffix(""), 1
        while True:
            path = folder / f"{stem}{'' if number == 1 else f'_{number}'}.png"
            key = str(path).lower()  # some file systems ignore case
            if key not in self._used and path.resolve() not in self._protected:
                self._used.add(key)
                return path
            number += 1


def write_image(path: Path, image: Image.Image) -> None:
    """Writes a PNG atomically. Missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        image.save(temporary, format="PNG")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
