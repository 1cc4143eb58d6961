"""A table of image paths and labels: CSV, TSV, or lines of a path and a label."""

from __future__ import annotations

import csv
from pathlib import Path

from timm.utils.misc import natural_key

from ..common.image_files import image_suffixes
from .base import DataFormat, register_format
from .contents import LabeledImages
from .splits import split_of

PATH_COLUMNS = (
    "path",
    "filepath",
    "file_path",
    "file",
    "filename",
    "file_name",
    "image",
    "image_path",
    "image_id",
    "id",
)
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "species", "breed", "y")
SPLIT_COLUMNS = ("split", "set", "subset", "fold", "dataset")
_SUFFIXES = (".csv", ".tsv", ".txt")


@register_format
class ImageList(DataFormat):
    """A CSV or TSV file with a header, or a text file with a path and a label per line."""

    name = "image list"
    layout = "labels.csv with the columns path and label (and split, optionally), or lines `path label`"

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether there is a table with a column of images and one of labels."""
        return _list_file(root) is not None

    @classmethod
    def read(cls, root: Path) -> LabeledImages:
        """Reads the table; classes are numbered in natural order of their names.

        Raises:
            ValueError: A line is incomplete, or images do not exist; the message names the file and line.
        """
        file = _list_file(root)
        if file is None:
            raise ValueError(f"There is no list with images and labels in {root}.")
        header, rows = _read(file)
        path_at, label_at, split_at = _columns(header)
        folder = root if root.is_dir() else root.parent
        places = [folder, folder / "images", *(place for place in sorted(folder.glob("*/")) if place.is_dir())]
        entries: list[tuple[str, str, str]] = []
        missing = []
        for number, row in rows:
            if len(row) <= max(path_at, label_at) or not row[path_at] or not row[label_at]:
                raise ValueError(f"{file}, line {number}: expected a path and a label, got {','.join(row)!r:.80}.")
            path = _find(row[path_at], folder, places)
            if path is None:
                missing.append(f"{row[path_at]} (line {number})")
                continue
            named = row[split_at] if split_at is not None and len(row) > split_at else "train"
            split = split_of(named)
            if split is None:
                raise ValueError(f"{file}, line {number}: the split must be train, val or test, got {named!r}.")
            entries.append((split, path, row[label_at]))
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(rows)} images in {file} do not exist in {folder}: "
                f"{', '.join(missing[:3])}."
            )
        classes = sorted({label for _, _, label in entries}, key=natural_key)
        labels = {name: label for label, name in enumerate(classes)}
        splits: dict[str, list[tuple[str, int]]] = {}
        for split, path, name in entries:
            splits.setdefault(split, []).append((path, labels[name]))
        return LabeledImages(folder, tuple(classes), splits)


def _list_file(root: Path) -> Path | None:
    """Returns the file with the table, if there is exactly one that looks like it."""
    files = [root] if root.is_file() else sorted(path for path in root.glob("*") if path.suffix.lower() in _SUFFIXES)
    found = [file for file in files if file.suffix.lower() in _SUFFIXES and _is_table(file)]
    return found[0] if len(found) == 1 else None


def _is_table(file: Path) -> bool:
    try:
        header, rows = _read(file, most=3)
        path_at, _, _ = _columns(header)
    except (ValueError, OSError):
        return False
    named = header is not None or any(Path(row[path_at]).suffix.lower() in image_suffixes() for _, row in rows)
    return bool(rows) and named


def _read(file: Path, most: int | None = None) -> tuple[list[str] | None, list[tuple[int, list[str]]]]:
    """Reads a table.

    Returns:
        The header in lowercase, or None; and the rows with their line numbers.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}.") from error
    lines = lines if most is None else lines[: most + 1]
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    if delimiter not in first:
        pairs = [(number, line.strip().rpartition(" ")) for number, line in enumerate(lines, 1) if line.strip()]
        return None, [(number, [path.strip(), label]) for number, (path, _, label) in pairs]
    rows = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter), 1)
        if any(row)
    ]
    header = [cell.lower() for cell in rows[0][1]]
    is_header = any(cell in PATH_COLUMNS for cell in header) and any(cell in LABEL_COLUMNS for cell in header)
    return (header, rows[1:]) if is_header else (None, rows)


def _columns(header: list[str] | None) -> tuple[int, int, int | None]:
    """Returns the positions of the columns of paths, labels and splits."""
    if header is None:
        return 0, 1, None

    def position(names: tuple[str, ...]) -> int | None:
        return next((header.index(name) for name in names if name in header), None)

    path_at, label_at = position(PATH_COLUMNS), position(LABEL_COLUMNS)
    if path_at is None or label_at is None:
        raise ValueError(f"The table needs a column of paths and one of labels, got {', '.join(header)}.")
    return path_at, label_at, position(SPLIT_COLUMNS)


def _find(given: str, folder: Path, places: list[Path]) -> str | None:
    """Finds an image, given with or without its suffix and folder; returns its path relative to `folder`."""
    suffixes = ("",) if Path(given).suffix.lower() in image_suffixes() else ("", ".jpg", ".jpeg", ".png")
    for place in places:
        for suffix in suffixes:
            path = place / f"{given}{suffix}"
            if path.is_file():
                return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    return None
