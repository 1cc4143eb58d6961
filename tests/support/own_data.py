"""Small data sets in the formats that users have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"blue": (40, 60, 220), "red": (220, 50, 40), "green": (40, 200, 60)}


def write_image(path: Path, color: str = "blue", size: tuple[int, int] = (24, 32), seed: int = 0) -> Path:
    """Writes an image of (height, width) pixels in one color with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-40, 40, (*size, 3))
    Image.fromarray(np.clip(np.array(COLORS[color]) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def class_folders(
    root: Path, count: int = 6, splits: Sequence[str] = (), classes: Sequence[str] = ("blue", "red")
) -> Path:
    """Writes one folder of images per class, in a folder per split if there are splits."""
    for number, split in enumerate(splits or ("",)):
        for name in classes:
            for index in range(count):
                write_image(root / split / name / f"{index}.png", name, seed=100 * number + index)
    return root


def coco_content(file_names: Sequence[str], first_id: int = 1) -> dict:
    """Returns an annotation file: in each image of 24x32 pixels a box of one of two classes, with a polygon."""
    images = [
        {"id": first_id + index, "file_name": name, "height": 24, "width": 32} for index, name in enumerate(file_names)
    ]
    annotations = [
        {
            "id": image["id"],
            "image_id": image["id"],
            "category_id": (3, 7)[index % 2],
            "bbox": [4, 6, 10, 8],
            "area": 80,
            "iscrowd": 0,
            "segmentation": [[4, 6, 14, 6, 14, 14, 4, 14]],
        }
        for index, image in enumerate(images)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "fish"}, {"id": 3, "name": "crab"}],
    }


def coco(root: Path, splits: Sequence[str] = ("train", "val"), count: int = 4) -> Path:
    """Writes images and annotations in COCO's own layout."""
    (root / "annotations").mkdir(parents=True)
    for split in splits:
        names = [write_image(root / split / f"{index}.jpg", seed=index).name for index in range(count)]
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco_content(names)))
    return root


def label_maps(root: Path, splits: Sequence[str] = (), count: int = 4) -> Path:
    """Writes images and label images with the values 0, 1 and 255."""
    for split in splits or ("",):
        for index in range(count):
            write_image(root / "images" / split / f"{index}.jpg", seed=index)
            labels = np.zeros((24, 32), np.uint8)
            labels[:, 16:], labels[:2] = 1, 255
            (root / "masks" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(root / "masks" / split / f"{index}.png")
    return root
