"""Confusion matrix of a detector: its detections matched with the annotated objects."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from ..data.common.text_files import read_json
from ..data.formats.file_errors import INSTANCE, Field, FileErrors, check_entries, entry_name, is_box, is_finite
from ..evaluation.coco_files import Entry, check_masks, ground_truth, read_annotation_file
from .confusion import BACKGROUND, ConfusionMatrix

_RESULT = (
    *(field for field in INSTANCE if field.key in ("image_id", "category_id")),
    Field("score", "must be a finite number", is_finite),
    Field("bbox", "must be [x, y, width, height], four finite numbers in pixels", is_box, optional=True),
)
"""Fields of the entries of a results file."""


def detection_confusion(
    results: str | os.PathLike[str],
    ann_file: str | os.PathLike[str],
    iou_thr: float = 0.5,
    score_thr: float = 0.3,
) -> ConfusionMatrix:
    """Matches detections with objects and counts them by true and predicted class.

    In every image, detections are first matched with objects of their own class, highest scores first, each with the
    object that it overlaps most (as in COCO's evaluation). The remaining ones are then matched regardless of the class,
    largest overlaps first. A detection without an object counts in the row of the background, an object without a
    detection in its column. Detections inside a crowd of their class, by `iou_thr` of their own area, do not count.

    Args:
        results: Results file in COCO's format with `bbox`, or else `segmentation`.
        ann_file: Annotation file in COCO's format.
        iou_thr: Minimum IoU of a detection and its object.
        score_thr: Minimum score of a detection.

    Returns:
        Matrix of the categories, by ascending id, followed by the background. As in COCO's own evaluation, all images
        of the annotation file count, including those without detections.

    Raises:
        ValueError: A file is missing or has another format, the files do not fit each other, or a threshold is out of
            range.
    """
    for name, value in (("iou_thr", iou_thr), ("score_thr", score_thr)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}.")
    entries = _read_results(results)
    path = os.fspath(ann_file)
    content = read_annotation_file(path)
    categories = sorted((int(category["id"]), str(category["name"])) for category in content["categories"])
    label_of = {category_id: label for label, (category_id, _) in enumerate(categories)}
    unknown = {entry["category_id"] for entry in entries} - set(label_of)
    if unknown:
        raise ValueError(f"{os.fspath(results)} has the category id {min(unknown)}, which is not in {path}.")
    key = "bbox" if entries and "bbox" in entries[0] else "segmentation"
    truth = ground_truth(content, path, None, label_of, masks=key == "segmentation" and bool(entries))
    sizes = {int(image["id"]): (image.get("height"), image.get("width")) for image in truth["images"]}
    unknown = {int(entry["image_id"]) for entry in entries} - set(sizes)
    if unknown:
        raise ValueError(f"{os.fspath(results)} has detections in the image {min(unknown)}, which is not in {path}.")
    if key == "segmentation":
        check_masks(
            entries,
            {int(image["id"]): image for image in truth["images"]},
            os.fspath(results),
            "detection",
            required=True,
        )
    detections = _by_image([entry for entry in entries if entry["score"] >= score_thr])
    objects = _by_image(truth["annotations"])
    counts = np.zeros((len(categories) + 1, len(categories) + 1), dtype=np.int64)
    for image_id, size in sizes.items():
        _count_image(counts, detections[image_id], objects[image_id], label_of, key, size, iou_thr)
    return ConfusionMatrix((*(name for _, name in categories), BACKGROUND), counts)


def _count_image(
    counts: np.ndarray,
    detections: list[Entry],
    objects: list[Entry],
    label_of: dict[int, int],
    key: str,
    size: tuple[int, int],
    iou_thr: float,
) -> None:
    """Adds the detections and objects of one image to the matrix.

    Args:
        counts: The matrix; its last row and column are the background.
        detections: Detections in the image.
        objects: Annotated objects in the image.
        label_of: Maps category ids to labels.
        key: "bbox" or "segmentation".
        size: Height and width of the image.
        iou_thr: Minimum IoU of a detection and its object.
    """
    background = len(label_of)
    detections = sorted(detections, key=lambda entry: -entry["score"])
    crowd = np.array([bool(one["iscrowd"]) for one in objects], dtype=bool)
    overlaps = _overlaps(detections, objects, key, size)
    predicted = np.array([label_of[entry["category_id"]] for entry in detections], dtype=np.int64)
    labels = np.array([label_of[int(one["category_id"])] for one in objects], dtype=np.int64)
    matches = _match(np.where(crowd, 0.0, overlaps), predicted, labels, iou_thr)
    in_crowd = ((overlaps >= iou_thr) & crowd & (predicted[:, None] == labels)).any(axis=1)
    for index, label in enumerate(predicted):
        if index in matches:
            counts[labels[matches[index]], label] += 1
        elif not in_crowd[index]:
            counts[background, label] += 1
    for missed in set(np.flatnonzero(~crowd).tolist()) - set(matches.values()):
        counts[labels[missed], background] += 1


def _read_results(path: str | os.PathLike[str]) -> list[Entry]:
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(
            f"{os.fspath(path)} is not a results file in COCO's format: a list of detections with image_id, "
            "category_id, score and bbox or segmentation."
        )
    errors = FileErrors(path)
    if check_entries(content, _RESULT, "detection", errors):
        key = "bbox" if content and "bbox" in content[0] else "segmentation"
        errors.add(
            "all detections must have a bbox, or all a segmentation",
            (
                f"{entry_name('detection', one, number)} has no {key}"
                for number, one in enumerate(content)
                if key not in one
            ),
        )
    errors.raise_if_any()
    return content


def _by_image(entries: list[Entry]) -> defaultdict[int, list[Entry]]:
    grouped: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[int(entry["image_id"])].append(entry)
    return grouped


def _overlaps(detections: list[Entry], objects: list[Entry], key: str, size: tuple[int, int]) -> np.ndarray:
    """Computes the IoU (detections, objects) float64; for crowds the share of the detection that is inside."""
    if not detections or not objects:
        return np.zeros((len(detections), len(objects)))
    crowd = [int(one["iscrowd"]) for one in objects]
    ours: list[Any] = [entry[key] for entry in detections]
    theirs: list[Any] = [one[key] for one in objects]
    if key == "segmentation":
        ours, theirs = ([coco_masks.segmToRle(one, size[1], size[0]) for one in side] for side in (ours, theirs))
    return np.asarray(coco_masks.iou(ours, theirs, crowd), dtype=np.float64).reshape(len(detections), len(objects))


def _match(overlaps: np.ndarray, predicted: np.ndarray, labels: np.ndarray, iou_thr: float) -> dict[int, int]:
    """Matches detections, sorted by descending score, with objects; maps each matched detection to its object."""
    matches: dict[int, int] = {}
    free = np.ones(len(labels), dtype=bool)
    for detection, label in enumerate(predicted):
        same_class = np.where(free & (labels == label), overlaps[detection], 0.0)
        if same_class.size and same_class.max() >= iou_thr and same_class.max() > 0:
            matches[detection] = int(same_class.argmax())
            free[matches[detection]] = False
    pairs = np.argwhere((overlaps >= iou_thr) & (overlaps > 0))
    for detection, target in pairs[np.argsort(-overlaps[tuple(pairs.T)], kind="stable")].tolist():
        if detection not in matches and free[target]:
            matches[detection] = target
            free[target] = False
    return matches
