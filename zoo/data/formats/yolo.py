"""YOLO's format: a data.yaml, and one text file of boxes or polygons per image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from ..common.decoding import reading_image
from ..common.image_files import ImageFinder
from ..common.text_files import read_lines
from .base import DataFormat, register_format
from .contents import AnnotatedImages
from .objects import CocoBuilder
from .splits import SPLIT_NAMES


@register_format
class Yolo(DataFormat):
    """The layout that ultralytics and Roboflow write, with boxes or polygons."""

    name = "YOLO"
    layout = "data.yaml with `names`, `train` and `val`; images/train/*.jpg; labels/train/*.txt"

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether there is a YAML file with class names and a training split."""
        return _data_file(root) is not None

    @classmethod
    def read(cls, root: Path) -> AnnotatedImages:
        """Reads the label files. An image without one has no objects.

        Raises:
            ValueError: The YAML file or a line of a label file is wrong; the message names the file and line.
        """
        file = _data_file(root)
        if file is None:
            raise ValueError(f"There is no YAML file with `names` and `train` in {root}.")
        data = _read_yaml(file)
        classes = _class_names(file, data["names"])
        base = file.parent / str(data.get("path") or "")
        base = base if base.is_dir() else file.parent  # `path` is often that of another machine
        finder = ImageFinder()
        splits = {}
        has_masks = False
        for split, names in SPLIT_NAMES.items():
            places = next((data[name] for name in names if data.get(name)), None)
            if places is None:
                continue
            builder = CocoBuilder(classes)
            for path in _images(file, base, places, finder):
                has_masks |= _add_image(builder, path, file.parent, len(classes))
            splits[split] = builder.content()
        return AnnotatedImages(
            root=file.parent,
            classes=classes,
            splits=splits,
            folders=dict.fromkeys(splits, "."),
            has_masks=has_masks,
            left_out=finder.left_out,
        )


def _data_file(root: Path) -> Path | None:
    """Returns the YAML file that describes the data set, if there is one."""
    files = [root] if root.is_file() else sorted((*root.glob("*.yaml"), *root.glob("*.yml")))
    for file in files:
        if file.suffix.lower() in (".yaml", ".yml"):
            try:
                data = _read_yaml(file)
            except ValueError:
                continue
            if "names" in data and "train" in data:
                return file
    return None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not a valid YAML file: {error}.") from error
    return data if isinstance(data, dict) else {}


def _class_names(file: Path, names: Any) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"{file}: the keys of `names` must be 0 to {len(names) - 1}, got {list(names)[:10]}.")
        names = [names[label] for label in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{file}: `names` must list the class names, got {names!r:.60}.")
    return tuple(map(str, names))


def _images(file: Path, base: Path, places: Any, finder: ImageFinder) -> Iterator[Path]:
    """Yields the images of a split: those of folders, or those that text files list."""
    for given in places if isinstance(places, list) else [places]:
        # Roboflow's paths begin with "../", although the folders are beside the file.
        candidates = (base / str(given), file.parent / str(given), file.parent / str(given).removeprefix("../"))
        place = next((path for path in candidates if path.exists()), None)
        if place is None:
            raise ValueError(f"{file} names {given!r}, which does not exist in {base}.")
        if place.is_dir():
            yield from map(Path, finder.find(place))
            continue
        for _, line in read_lines(place):
            yield place.parent / line


def _label_file(image: Path) -> Path:
    """Returns the label file of an image: in `labels` instead of the last `images` of its path, or beside it."""
    parts = list(image.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _add_image(builder: CocoBuilder, path: Path, root: Path, num_classes: int) -> bool:
    """Adds an image and its objects; returns whether one of them has a polygon."""
    with reading_image(str(path)), Image.open(path) as image:
        width, height = image.size
    builder.add_image(Path(os.path.relpath(path, root)).as_posix(), height, width)
    labels = _label_file(path)
    if not labels.is_file():
        return False
    has_polygon = False
    for number, line in read_lines(labels):
        label, values = _parse_line(line, f"{labels}, line {number}", num_classes)
        if len(values) == 4:
            x, y, w, h = (value * side for value, side in zip(values, (width, height) * 2, strict=True))
            builder.add_box(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        else:
            builder.add_polygon(label, [value * (height if index % 2 else width) for index, value in enumerate(values)])
            has_polygon = True
    return has_polygon


def _parse_line(line: str, place: str, num_classes: int) -> tuple[int, list[float]]:
    """Parses a label and its box (4 numbers) or polygon (6 or more), as shares of the image's sides."""
    first, *rest = line.split()
    try:
        label, values = int(float(first)), [float(word) for word in rest]
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{place}: expected a class and numbers, got {line!r:.80}.") from error
    if not 0 <= label < num_classes:
        raise ValueError(f"{place}: the class must be 0 to {num_classes - 1}, got {label}.")
    if not all(math.isfinite(value) and -0.01 <= value <= 1.01 for value in values):
        raise ValueError(f"{place}: coordinates must be shares of the image's sides, 0 to 1, got {line!r:.80}.")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"{place}: expected a box (4 numbers) or a polygon (6 or more, even), got {len(values)} numbers."
        )
    return label, values
