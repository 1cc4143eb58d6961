"""COCO's files as an evaluation needs them: the ground truth of some images, and results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from faster_coco_eval.core import mask as coco_masks

from ...names import unknown_name
from ..files import write_text

Entry = dict[str, Any]
"""A JSON object of an annotation file or of a results file."""


def read_coco_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: there is no such file, or it is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"The file {os.fspath(path)} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is no JSON file: {error}") from error


def read_annotation_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads an annotation file.

    Returns:
        `images`, `categories` and, unless the file tells nothing of objects (as those of COCO's test sets),
        `annotations`.

    Raises:
        ValueError: there is no such file, or it is none of COCO's form.
    """
    content = read_coco_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(entry, dict) and "id" in entry for entry in content[key])
        for key in ("images", "categories")
    ):
        raise ValueError(f"{os.fspath(path)} is no annotation file of COCO's form: it has no images or no categories.")
    return content


def category_ids_of(content: dict[str, Any], classes: Sequence[str], path: str) -> list[int]:
    """Finds the ids of classes by their names.

    Args:
        content: of the annotation file.
        classes: names.
        path: the file's, for the error's message.

    Raises:
        ValueError: the file has no category of that name.
    """
    ids = {str(category.get("name")): int(category["id"]) for category in content["categories"]}
    for name in classes:
        if name not in ids:
            raise ValueError(f"{path}: {unknown_name('category', name, ids)}")
    return [ids[name] for name in classes]


def ground_truth(
    content: dict[str, Any], path: str, image_ids: Iterable[int] | None, category_ids: Iterable[int], masks: bool
) -> dict[str, Any]:
    """Picks out what detections are held against.

    Annotations get new ids, from 1 on: evaluators take 0 for "no match", and ids may occur twice in self-made files.
    What such files leave out is filled in: `iscrowd` is 0, `area` that of the mask or else of the box.

    Args:
        content: of the annotation file.
        path: the file's, for errors' messages.
        image_ids: the images that were evaluated; None for all.
        category_ids: the categories that were evaluated.
        masks: whether every annotation must have a mask.

    Returns:
        `images`, `categories` and `annotations` of these images and categories.

    Raises:
        ValueError: the file lacks such an image or category, or masks are wanted and missing, or it has no annotations.
    """
    by_id = {int(image["id"]): image for image in content["images"]}
    chosen = list(by_id) if image_ids is None else list(image_ids)
    missing = [image_id for image_id in chosen if image_id not in by_id]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(chosen)} images with predictions are not in {path}, such as that with the id "
            f"{missing[0]}: predictions and ground truth are of different data sets."
        )
    categories = {int(category["id"]): category for category in content["categories"]}
    wanted = set(category_ids)
    if not wanted <= set(categories):
        raise ValueError(f"{path}: {unknown_name('category id', min(wanted - set(categories)), map(str, categories))}")
    if "annotations" not in content:
        raise ValueError(f"{path} has no annotations: there is nothing to hold predictions against.")
    kept, annotations = set(chosen), []
    for annotation in content["annotations"]:
        if int(annotation["image_id"]) in kept and int(annotation["category_id"]) in wanted:
            annotations.append(_completed(annotation, by_id[int(annotation["image_id"])], len(annotations) + 1))
    bare = sum(not annotation.get("segmentation") for annotation in annotations)
    if masks and bare:
        raise ValueError(
            f"{path} has no masks for {bare} of {len(annotations)} objects: mask AP cannot be computed. "
            "Evaluate boxes alone: iou_types=('bbox',)."
        )
    return {
        "images": [by_id[image_id] for image_id in chosen],
        "categories": [category for category_id, category in categories.items() if category_id in wanted],
        "annotations": annotations,
    }


def _completed(annotation: Entry, image: Entry, number: int) -> Entry:
    complete = {**annotation, "id": number, "iscrowd": int(annotation.get("iscrowd") or 0)}
    outline = annotation.get("segmentation")
    if "area" not in annotation:
        if outline:
            complete["area"] = float(coco_masks.area(coco_masks.segmToRle(outline, image["width"], image["height"])))
        else:
            complete["area"] = float(annotation["bbox"][2] * annotation["bbox"][3])
    return complete


def write_results(path: str | os.PathLike[str], entries: Sequence[Entry]) -> int:
    """Writes a results file, as COCO's server and pycocotools' `loadRes` read it.

    Args:
        path: the file.
        entries: `image_id`, `category_id`, `score` and `bbox` or `segmentation` of each detection.

    Returns:
        The file's size in bytes.
    """
    content = json.dumps(list(entries), separators=(",", ":"), allow_nan=False)
    write_text(path, content + "\n")
    return len(content) + 1
