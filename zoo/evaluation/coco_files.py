"""Files in COCO's format: ground truth for the evaluated images, and results."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from ...deprecated_paths import renamed_names
from ...names import unknown_name
from ..data.common.text_files import read_json
from ..data.formats.file_errors import (
    CATEGORY,
    IMAGE_ID,
    INSTANCE,
    SIZE,
    FileErrors,
    check_entries,
    check_references,
    check_unique,
    entry_name,
)
from ..data.formats.segmentations import pack_segmentations
from ..files import write_text

Entry = dict[str, Any]
"""A JSON object in an annotation file or a results file."""

_OPTIONAL_SIZE = tuple(dataclasses.replace(field, optional=True) for field in SIZE)
"""Sizes of images, which boxes do not need."""


def read_annotation_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads an annotation file.

    Returns:
        A dict with `images`, `categories` and, except for files like those of COCO's test sets, `annotations`.

    Raises:
        ValueError: The file cannot be read or is not in COCO's format, entries have wrong values, or annotations refer
            to images or categories that are not in the file.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key, [] if key == "annotations" else None), list)
        for key in ("images", "categories", "annotations")
    ):
        raise ValueError(
            f"{os.fspath(path)} is not an annotation file in COCO's format: it needs lists of images and of categories "
            "with ids."
        )
    errors = FileErrors(path)
    annotations = content.get("annotations", [])
    check_entries(content["images"], (IMAGE_ID, *_OPTIONAL_SIZE), "image", errors)
    check_entries(content["categories"], CATEGORY, "category", errors)
    check_entries(annotations, INSTANCE, "annotation", errors)
    errors.raise_if_any()
    ids = {key: [entry["id"] for entry in content[key]] for key in ("images", "categories")}
    for key, values in ids.items():
        check_unique(values, key, errors)
    check_references(annotations, ids["images"], ids["categories"], errors)
    errors.raise_if_any()
    return content


def category_ids_of(content: dict[str, Any], classes: Sequence[str], path: str) -> list[int]:
    """Looks up the category ids of class names.

    Args:
        content: Content of the annotation file.
        classes: Names of the classes.
        path: Path of the annotation file, for error messages.

    Raises:
        ValueError: The file has no category of that name.
    """
    ids = {str(category.get("name")): int(category["id"]) for category in content["categories"]}
    for name in classes:
        if name not in ids:
            raise ValueError(f"{path}: {unknown_name('category', name, ids)}")
    return [ids[name] for name in classes]


def ground_truth(
    content: dict[str, Any], path: str, image_ids: Iterable[int] | None, category_ids: Iterable[int], masks: bool
) -> dict[str, Any]:
    """Selects the ground truth that detections are compared with.

    Annotations are renumbered from 1: evaluators treat id 0 as "no match", and ids may not be unique in hand-made
    files. Missing entries of such files are filled in: `iscrowd` with 0, `area` with that of the mask or else the box.

    Args:
        content: Content of the annotation file.
        path: Path of the annotation file, for error messages.
        image_ids: Images that are evaluated; None for all.
        category_ids: Categories that are evaluated.
        masks: Whether every annotation must have a mask.

    Returns:
        A dict with the `images`, `categories` and `annotations`.

    Raises:
        ValueError: The file lacks an image, a category, a required mask or all annotations.
    """
    by_id = {int(image["id"]): image for image in content["images"]}
    chosen = list(by_id) if image_ids is None else list(image_ids)
    missing = [image_id for image_id in chosen if image_id not in by_id]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(chosen)} images with predictions are not in {path}, such as the image with id "
            f"{missing[0]}: predictions and ground truth belong to different data sets."
        )
    categories = {int(category["id"]): category for category in content["categories"]}
    wanted = set(category_ids)
    if not wanted <= set(categories):
        raise ValueError(f"{path}: {unknown_name('category id', min(wanted - set(categories)), map(str, categories))}")
    if "annotations" not in content:
        raise ValueError(f"{path} has no annotations to compare predictions with.")
    kept = set(chosen)
    found = [one for one in content["annotations"] if one["image_id"] in kept and one["category_id"] in wanted]
    check_masks([one for one in found if masks or "area" not in one], by_id, path)
    annotations = [_completed(one, by_id[one["image_id"]], number) for number, one in enumerate(found, 1)]
    without_mask = sum(not annotation.get("segmentation") for annotation in annotations)
    if masks and without_mask:
        raise ValueError(
            f"{path} has no masks for {without_mask} of {len(annotations)} objects, so mask AP cannot be computed. "
            "Evaluate only boxes: iou_types=('bbox',)."
        )
    return {
        "images": [by_id[image_id] for image_id in chosen],
        "categories": [category for category_id, category in categories.items() if category_id in wanted],
        "annotations": annotations,
    }


def check_masks(
    entries: Sequence[Entry],
    images: Mapping[int, Entry],
    path: str,
    kind: str = "annotation",
    required: bool = False,
) -> None:
    """Checks masks before an evaluator gets them, which could crash or count wrong ones in silence.

    Args:
        entries: Annotations or detections; those without `segmentation` are not checked.
        images: Images by id.
        path: Path of the file of the entries, for error messages.
        kind: What an entry is, for error messages.
        required: Whether masks may not be empty.

    Raises:
        ValueError: If a mask is wrong, or its image has no size.
    """
    entries = [entry for entry in entries if "segmentation" in entry]
    errors = FileErrors(path)
    shown = {entry["image_id"]: images[entry["image_id"]] for entry in entries}
    if check_entries(list(shown.values()), SIZE, "image", errors):
        sizes = [(shown[entry["image_id"]]["height"], shown[entry["image_id"]]["width"]) for entry in entries]
        packed = pack_segmentations(
            [entry["segmentation"] for entry in entries],
            np.array(sizes, dtype=np.int64).reshape(-1, 2),
            lambda number: entry_name(kind, entries[number], number),
            errors,
        )
        errors.raise_if_any()
        if required:
            empty = (entry_name(kind, entries[number], number) for number, piece in enumerate(packed) if not piece)
            errors.add("segmentation must have run lengths or a polygon of three points or more", empty)
    errors.raise_if_any()


def _completed(annotation: Entry, image: Entry, number: int) -> Entry:
    complete = {**annotation, "id": number, "iscrowd": int(annotation.get("iscrowd") or 0)}
    outline = annotation.get("segmentation")
    if isinstance(outline, list):
        # A polygon needs 3 points: evaluators take 2 for a box, and refuse 1.
        outline = complete["segmentation"] = [ring for ring in outline if len(ring) >= 6]
    if "area" not in annotation:
        if outline:
            complete["area"] = float(coco_masks.area(coco_masks.segmToRle(outline, image["width"], image["height"])))
        else:
            complete["area"] = float(annotation["bbox"][2] * annotation["bbox"][3])
    return complete


def write_results(path: str | os.PathLike[str], entries: Sequence[Entry]) -> int:
    """Writes a file in COCO's results format, as its server and pycocotools' `loadRes` read it.

    Args:
        path: Path of the file.
        entries: `image_id`, `category_id`, `score` and `bbox` or `segmentation` of each detection.

    Returns:
        Size of the file in bytes.
    """
    content = json.dumps(list(entries), separators=(",", ":"), allow_nan=False)
    write_text(path, content + "\n")
    return len(content) + 1


__getattr__ = renamed_names(__name__, {"read_coco_json": "read_json"})
