"""LabelMe's format: one JSON file of shapes per image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from timm.utils.misc import natural_key

from ..common.image_files import ImageFinder
from ..common.text_files import read_json
from .base import DataFormat, register_format
from .contents import AnnotatedImages
from .objects import CocoBuilder

_CIRCLE_POINTS = 32


@register_format
class LabelMe(DataFormat):
    """Images with a JSON file of the same name beside them, as labelme writes them."""

    name = "LabelMe"
    layout = "*.jpg and *.json of the same name, with `shapes`"

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether there is a JSON file with shapes."""
        first = next(_json_files(root), None)
        return first is not None and b'"shapes"' in first.read_bytes()

    @classmethod
    def read(cls, root: Path) -> AnnotatedImages:
        """Reads polygons, rectangles and circles; points and lines have no area and are left out.

        Raises:
            ValueError: A file is wrong, or its image is not found; the message names the file.
        """
        finder = ImageFinder()
        by_name = {Path(path).stem: path for path in finder.find(root)}
        files = {path: _read(path) for path in _json_files(root)}
        shapes = [shape for content in files.values() for shape in content["shapes"]]
        classes = sorted({str(shape["label"]) for shape in shapes}, key=natural_key)
        if not classes:
            raise ValueError(f"The JSON files in {root} have no shapes.")
        labels = {name: label for label, name in enumerate(classes)}
        builder = CocoBuilder(classes)
        has_masks = False
        for path, content in files.items():
            image = by_name.get(path.stem) or by_name.get(Path(str(content.get("imagePath"))).stem)
            if image is None:
                raise ValueError(f"{path}: there is no image {content.get('imagePath') or path.stem!r} in {root}.")
            builder.add_image(
                Path(os.path.relpath(image, root)).as_posix(), content["imageHeight"], content["imageWidth"]
            )
            for shape in content["shapes"]:
                polygon = _polygon(shape)
                if polygon is None:
                    continue
                has_masks |= shape.get("shape_type") != "rectangle"
                builder.add_polygon(labels[str(shape["label"])], polygon)
        del finder.left_out[".json"]
        return AnnotatedImages(
            root=root,
            classes=tuple(classes),
            splits={"train": builder.content()},
            folders={"train": "."},
            has_masks=has_masks,
            left_out=finder.left_out,
        )


def _json_files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from map(Path, ImageFinder([".json"]).find(root))


def _read(path: Path) -> dict[str, Any]:
    """Reads and checks a file."""
    content = read_json(path)
    try:
        sides = [content[key] for key in ("imageHeight", "imageWidth")]
        points = [point for shape in content["shapes"] for point in shape["points"]]
        right = all(isinstance(side, int) and side > 0 for side in sides)
        right = right and all(len(point) == 2 and all(math.isfinite(value) for value in point) for point in points)
        right = right and all("label" in shape for shape in content["shapes"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in LabelMe's format: {type(error).__name__}: {error}.") from error
    if not right:
        raise ValueError(f"{path} is not in LabelMe's format: sizes, labels or points are missing or not numbers.")
    return content


def _polygon(shape: dict[str, Any]) -> list[float] | None:
    """Returns a shape as a polygon (x1, y1, x2, y2, ...) in pixels; None if it has no area."""
    points, kind = shape["points"], shape.get("shape_type") or "polygon"
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        angles = [2 * math.pi * step / _CIRCLE_POINTS for step in range(_CIRCLE_POINTS)]
        points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    elif kind != "polygon" or len(points) < 3:
        return None
    return [float(value) for point in points for value in point]
