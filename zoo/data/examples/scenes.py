"""Scenes of handwritten digits on textured ground, as a COCO data set and as pairs of image and label map.

    {train,val}/*.jpg                     images
    annotations/instances_{split}.json    boxes and masks of the digits in COCO format
    labels/{train,val}/*.png              label maps: 0 is the ground, 1 to 10 are the digits 0 to 9

The digits and their split are those of `digits`: no digit of a training scene occurs in a validation scene. They have
bright colors on dark ground, are a fifth to two fifths of the scene in size, and may overlap and extend beyond the
border. Everything depends only on the seed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as rle
from PIL import Image

from .digits import load_digits, stratified_split
from .folder import is_up_to_date, write_folder

RECORD = "scenes.json"
"""File beside the images with the settings, and a checksum of all files."""
_MIN_VISIBLE = 0.75
"""Fraction of a digit's pixels that must stay visible."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """An image and its objects.

    Attributes:
        image: Image, (size, size, 3) uint8.
        digits: The digit of each object.
        masks: Visible pixels of each object, (objects, size, size) bool; disjoint.
    """

    image: np.ndarray
    digits: list[int]
    masks: np.ndarray


def textured_ground(size: int, random: np.random.RandomState) -> np.ndarray:
    """Generates noise of several scales around a dark color, (size, size, 3) float in [0, 255]."""
    color = random.uniform(20, 120, 3)
    texture = np.zeros((size, size, 3))
    for cells in (3, 8, 20, size):
        grid = Image.fromarray((random.uniform(size=(cells, cells, 3)) * 255).astype(np.uint8))
        layer = np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), dtype=float) - 127.5
        texture += layer * random.uniform(0.05, 0.2)
    return np.clip(color + texture, 0, 255)


def digit_alpha(digit: np.ndarray, side: int) -> np.ndarray:
    """Enlarges a digit (8, 8) to (side, side) and crops it to its strokes; returns opacity, float in [0, 1]."""
    enlarged = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    alpha = np.clip((np.asarray(enlarged, dtype=float) / 255 - 0.25) * 2, 0, 1)
    strokes = alpha > 0.5
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def compose(digits: np.ndarray, labels: np.ndarray, size: int, most: int, random: np.random.RandomState) -> Scene:
    """Composes a scene of random digits.

    Args:
        digits: Digits to choose from, uint8 (N, 8, 8).
        labels: Label of each digit, (N,).
        size: Height and width of the scene in pixels.
        most: Maximum number of digits; there is at least one.
        random: Random generator.
    """
    image, masks, found, areas = textured_ground(size, random), [], [], []
    attempts = random.randint(1, most + 1)
    while attempts > 0 or not masks:
        attempts -= 1
        choice = random.randint(len(digits))
        alpha = digit_alpha(digits[choice], random.randint(size // 5, 2 * size // 5 + 1))
        top, left = (random.randint(-side // 6, size - side + side // 6) for side in alpha.shape)
        layer = np.zeros((size, size))
        inside = tuple(
            slice(max(0, at), min(size, at + side)) for at, side in zip((top, left), alpha.shape, strict=True)
        )
        rows, columns = inside
        layer[inside] = alpha[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        mask = layer > 0.5
        covered = [known & ~mask for known in masks]
        kept = [int(known.sum()) >= _MIN_VISIBLE * area for known, area in zip(covered, areas, strict=True)]
        if mask.sum() < _MIN_VISIBLE * (alpha > 0.5).sum() or not all(kept):
            continue
        colors = random.uniform(150, 255, (8, 3))
        color = colors[np.abs(colors - image[mask].mean(0)).sum(1).argmax()]
        image = image + (color - image) * layer[..., None]
        masks = [*covered, mask]
        areas.append(int((alpha > 0.5).sum()))
        found.append(int(labels[choice]))
    pixels = np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    return Scene(pixels, found, np.stack(masks))


def coco_annotations(scenes: list[Scene]) -> dict[str, Any]:
    """Converts scenes to COCO's format: boxes as x, y, width, height; run-length encoded masks."""
    images, annotations = [], []
    for index, scene in enumerate(scenes):
        height, width = scene.image.shape[:2]
        images.append({"id": index + 1, "file_name": f"{index + 1:06d}.jpg", "height": height, "width": width})
        for digit, mask in zip(scene.digits, scene.masks, strict=True):
            encoded: Any = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": digit + 1,
                    "bbox": [float(value) for value in rle.toBbox(encoded)],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode()},
                }
            )
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    return {"images": images, "annotations": annotations, "categories": categories}


def scene_files(size: int, train: int, val: int, most: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields the relative path and content of each file, in a fixed order."""
    digits, labels = load_digits()
    validation = stratified_split(labels, 0.2, seed=0)
    for split, count, selected in (("train", train, ~validation), ("val", val, validation)):
        random = np.random.RandomState([seed, split == "val"])
        scenes = [compose(digits[selected], labels[selected], size, most, random) for _ in range(count)]
        for index, scene in enumerate(scenes):
            name = f"{index + 1:06d}"
            label_map = np.zeros((size, size), dtype=np.uint8)
            for digit, mask in zip(scene.digits, scene.masks, strict=True):
                label_map[mask] = digit + 1
            yield f"{split}/{name}.jpg", _encode(scene.image, "JPEG", quality=90)
            yield f"labels/{split}/{name}.png", _encode(label_map, "PNG")
        yield f"annotations/instances_{split}.json", json.dumps(coco_annotations(scenes)).encode()


def make_scenes(
    out: str | os.PathLike[str],
    size: int = 128,
    train: int = 3200,
    val: int = 100,
    most: int = 4,
    seed: int = 0,
    force: bool = False,
) -> bool:
    """Writes the data set, unless it exists with the same settings and is intact.

    Args:
        out: Folder to write. It appears only when it is complete.
        size: Height and width of the scenes in pixels, >= 64.
        train: Number of training scenes.
        val: Number of validation scenes.
        most: Maximum number of digits per scene.
        seed: Seed of everything.
        force: Replace a folder that was made with other settings.

    Returns:
        True if the folder was written, False if it existed.

    Raises:
        ValueError: If a setting is out of range, or `out` has other contents.
    """
    for name, value, least in (("size", size, 64), ("train", train, 1), ("val", val, 1), ("most", most, 1)):
        if value < least:
            raise ValueError(f"--{name} must be >= {least}, got {value}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be between 0 and {2**32 - 1}, got {seed}.")
    settings = {"size": size, "train": train, "val": val, "most": most, "seed": seed}
    if is_up_to_date(Path(out), RECORD, settings, "make_scenes", force):
        return False
    write_folder(Path(out), RECORD, scene_files(**settings), {"settings": settings})
    return True


def _encode(pixels: np.ndarray, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=image_format, **options)
    return buffer.getvalue()
