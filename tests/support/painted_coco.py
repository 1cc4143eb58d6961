"""A small data set in COCO's format whose images show each instance in its own color, for tests of transforms."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

BACKGROUND = (128, 128, 128)
"""Color of pixels without an instance."""
COLORS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250), (250, 10, 250))
"""Colors of an image's instances, including crowds, in the order of the file."""
CATEGORIES = [{"id": 42, "name": "ring"}, {"id": 3, "name": "kite"}, {"id": 7, "name": "disc"}]
"""Unsorted, with arbitrary ids."""
CLASSES = ("kite", "disc", "ring")
"""Names by label, in ascending order of the category ids."""


def disc(height: int, width: int, y: float, x: float, radius: float, hole: float = 0.0) -> np.ndarray:
    """Returns the bitmap (height, width) uint8 of a disc with a hole."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(rows - y, columns - x)
    return np.asfortranarray(((distance < radius) & (distance >= hole)).astype(np.uint8))


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    """Returns run lengths as a list of numbers, column by column, beginning with zeros."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.array([0, *changes, flat.size])).tolist()
    return {"size": list(mask.shape), "counts": counts if flat[0] == 0 else [0, *counts]}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    """Returns COCO's compressed run lengths as a string."""
    runs: Any = coco_mask.encode(mask)
    return {"size": list(mask.shape), "counts": runs["counts"].decode()}


def bitmap(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes polygons or run lengths with pycocotools to (height, width) uint8."""
    runs: Any = segmentation
    if isinstance(segmentation, list):
        parts: Any = coco_mask.frPyObjects(segmentation, height, width)
        runs = coco_mask.merge(parts)
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools lags behind NumPy
        return np.asarray(coco_mask.decode(runs))


def annotation(image: int, category: int, segmentation: Any, size: tuple[int, int], crowd: bool = False) -> dict:
    """Returns an annotation without an id; its box encloses the bitmap."""
    mask = bitmap(segmentation, *size)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "bbox": [float(side) for side in box],
        "area": float(mask.sum()),
        "iscrowd": int(crowd),
    }


def content() -> dict[str, Any]:
    """Returns the content of an annotation file of four images with 3, 3 (and a crowd), 1 and 0 instances."""
    images = [(11, 120, 160), (5, 150, 110), (30, 90, 130), (2, 64, 64)]
    kite = [[20.5, 10.25, 60.0, 30.5, 44.25, 70.0, 18.75, 52.5]]
    two_parts = [[70.0, 90.0, 110.5, 92.0, 90.0, 116.0], [120.0, 88.5, 150.0, 90.0, 148.0, 112.25, 122.0, 110.0]]
    found = [
        annotation(11, 3, kite, (120, 160)),
        annotation(11, 42, compressed(disc(120, 160, 40, 115, 30, 12)), (120, 160)),
        annotation(5, 7, uncompressed(disc(150, 110, 40, 40, 25.5)), (150, 110)),
        annotation(11, 3, two_parts, (120, 160)),
        annotation(5, 3, [[60.0, 70.0, 100.0, 75.0, 80.0, 110.0]], (150, 110)),
        annotation(5, 7, uncompressed(disc(150, 110, 120, 30, 20)), (150, 110), crowd=True),
        annotation(5, 42, compressed(disc(150, 110, 40, 90, 15, 4)), (150, 110)),
        annotation(30, 7, compressed(disc(90, 130, 45, 60, 35)), (90, 130)),
    ]
    return {
        "info": {},
        "images": [
            {"id": name, "file_name": f"{name:06}.png", "height": height, "width": width}
            for name, height, width in images
        ],
        "categories": CATEGORIES,
        "annotations": [{"id": 100 + number, **one} for number, one in enumerate(found)],
    }


def save(root: Path, made: dict[str, Any] | None = None, split: str = "train2017") -> Path:
    """Writes the images to `<root>/<split>` and annotations/instances_<split>.json; returns the root."""
    made = content() if made is None else made
    (root / split).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for image in made["images"]:
        Image.fromarray(paint(made, image)).save(root / split / image["file_name"])
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(made))
    return root


def paint(made: dict[str, Any], image: dict[str, Any]) -> np.ndarray:
    """Returns an image (height, width, 3) uint8."""
    pixels = np.full((image["height"], image["width"], 3), BACKGROUND, np.uint8)
    for number, one in enumerate(instances(made, image["id"])):
        pixels[bitmap(one["segmentation"], image["height"], image["width"]) == 1] = COLORS[number]
    return pixels


def instances(made: dict[str, Any], image: int) -> list[dict[str, Any]]:
    """Returns an image's annotations, in the order of the file."""
    return [one for one in made["annotations"] if one["image_id"] == image]
