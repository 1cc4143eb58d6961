"""Builds annotations in COCO's format from the boxes and polygons of other formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class CocoBuilder:
    """Collects images and objects, and numbers them.

    Args:
        classes: Names by label; category ids count from 1.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add_image(self, file_name: str, height: int, width: int) -> None:
        """Adds an image; the objects that follow belong to it."""
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})

    def add_box(self, label: int, box: Sequence[float], ignore: bool = False) -> None:
        """Adds an object with a box (x1, y1, x2, y2) in pixels, which is clipped to the image."""
        image = self._images[-1]
        left, right = (min(max(float(x), 0.0), image["width"]) for x in (box[0], box[2]))
        top, bottom = (min(max(float(y), 0.0), image["height"]) for y in (box[1], box[3]))
        self._add(label, [left, top, right - left, bottom - top], (right - left) * (bottom - top), [], ignore)

    def add_polygon(self, label: int, polygon: Sequence[float]) -> None:
        """Adds an object with a polygon (x1, y1, x2, y2, ...) in pixels, at least three points."""
        xs, ys = polygon[0::2], polygon[1::2]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        following = [*range(1, len(xs)), 0]
        area = abs(sum(xs[i] * ys[j] - xs[j] * ys[i] for i, j in enumerate(following))) / 2
        self._add(label, box, area, [list(polygon)], False)

    def _add(self, label: int, box: list[float], area: float, segmentation: list[list[float]], ignore: bool) -> None:
        self._annotations.append(
            {
                "id": len(self._annotations) + 1,
                "image_id": self._images[-1]["id"],
                "category_id": label + 1,
                "bbox": box,
                "area": area,
                "segmentation": segmentation,
                "iscrowd": int(ignore),
            }
        )

    def content(self) -> dict[str, Any]:
        """Returns the content of an annotation file."""
        return {"images": self._images, "annotations": self._annotations, "categories": self._categories}
