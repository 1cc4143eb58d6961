"""Which classes a detector takes for which: its results held against the annotations."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from ..evaluation.coco_files import Entry, ground_truth, read_annotation_file, read_coco_json
from .confusion import BACKGROUND, Confusion


def detection_confusion(
    results: str | os.PathLike[str],
    ann_file: str | os.PathLike[str],
    iou_thr: float = 0.5,
    score_thr: float = 0.3,
) -> Confusion:
    """Matches detections with objects and counts what was taken for what.

    In every image, detections first take objects of their own class, the most certain ones first, each the object
    that it overlaps most (as COCO matches them); then what is left is matched whatever the class, the largest overlaps
    first. A detection that still has no object counts in the row of the background, an object without detection in its
    column. Detections that lie in a crowd of their class, with `iou_thr` of their own area, count nowhere.

    Args:
        results: a file in COCO's format for results, with `bbox`, or else `segmentation`.
        ann_file: the annotation file.
        iou_thr: the least IoU of a detection and its object.
        score_thr: the least score of a detection that counts.

    Returns:
        The matrix of the file's categories, by ascending id, and the background as the last one. As in COCO's own
        evaluation all images of the annotation file count, those without detections, too.

    Raises:
        ValueError: a file is missing or no such file, they do not fit each other, or a threshold is out of range.
    """
    for name, value in (("iou_thr", iou_thr), ("score_thr", score_thr)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} lies between 0 and 1, not at {value}.")
    found = _read_results(results)
    path = os.fspath(ann_file)
    content = read_annotation_file(path)
    categories = sorted((int(one["id"]), str(one["name"])) for one in content["categories"])
    label_of = {category_id: label for label, (category_id, _) in enumerate(categories)}
    strange = {entry["category_id"] for entry in found} - set(label_of)
    if strange:
        raise ValueError(f"{os.fspath(results)} has the category id {min(strange)}, which is not in {path}.")
    key = "bbox" if found and "bbox" in found[0] else "segmentation"
    truth = ground_truth(content, path, None, label_of, masks=key == "segmentation" and bool(found))
    sizes = {int(image["id"]): (image.get("height"), image.get("width")) for image in truth["images"]}
    stray = {int(entry["image_id"]) for entry in found} - set(sizes)
    if stray:
        raise ValueError(f"{os.fspath(results)} has detections in the image {min(stray)}, which is not in {path}.")
    detections, objects = _by_image(found), _by_image(truth["annotations"])
    background = len(categories)
    counts = np.zeros((background + 1, background + 1), dtype=np.int64)
    for image_id in sizes:
        own = sorted(
            (entry for entry in detections[image_id] if entry["score"] >= score_thr), key=lambda entry: -entry["score"]
        )
        there = objects[image_id]
        crowd = np.array([bool(one["iscrowd"]) for one in there], dtype=bool)
        overlaps = _overlaps(own, there, key, sizes[image_id])
        guesses = np.array([label_of[entry["category_id"]] for entry in own], dtype=np.int64)
        labels = np.array([label_of[int(one["category_id"])] for one in there], dtype=np.int64)
        matches = _match(np.where(crowd, 0.0, overlaps), guesses, labels, iou_thr)
        in_crowd = ((overlaps >= iou_thr) & crowd & (guesses[:, None] == labels)).any(axis=1)
        for place, guess in enumerate(guesses):
            if place in matches:
                counts[labels[matches[place]], guess] += 1
            elif not in_crowd[place]:
                counts[background, guess] += 1
        missed = set(np.flatnonzero(~crowd).tolist()) - set(matches.values())
        for number in missed:
            counts[labels[number], background] += 1
    return Confusion((*(name for _, name in categories), BACKGROUND), counts)


def _read_results(path: str | os.PathLike[str]) -> list[Entry]:
    content = read_coco_json(path)
    for entry in content if isinstance(content, list) else [None]:
        if not isinstance(entry, dict) or not {"image_id", "category_id", "score"} <= set(entry):
            raise ValueError(
                f"{os.fspath(path)} is no results file of COCO's form: a list of detections with image_id, "
                "category_id, score and bbox or segmentation."
            )
        if "bbox" not in entry and "segmentation" not in entry:
            raise ValueError(f"{os.fspath(path)} has detections with neither bbox nor segmentation.")
    return content


def _by_image(entries: list[Entry]) -> defaultdict[int, list[Entry]]:
    grouped: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[int(entry["image_id"])].append(entry)
    return grouped


def _overlaps(found: list[Entry], objects: list[Entry], key: str, size: tuple[int, int]) -> np.ndarray:
    """IoU (detections, objects) float64; for crowds the share of the detection that lies in it."""
    if not found or not objects:
        return np.zeros((len(found), len(objects)))
    crowd = [int(one["iscrowd"]) for one in objects]
    ours: list[Any] = [entry[key] for entry in found]
    theirs: list[Any] = [one[key] for one in objects]
    if key == "segmentation":
        ours, theirs = ([coco_masks.segmToRle(one, size[1], size[0]) for one in side] for side in (ours, theirs))
    return np.asarray(coco_masks.iou(ours, theirs, crowd), dtype=np.float64).reshape(len(found), len(objects))


def _match(overlaps: np.ndarray, guesses: np.ndarray, labels: np.ndarray, iou_thr: float) -> dict[int, int]:
    """Matches detections, most certain first, with objects; gives the object of each detection that has one."""
    matches: dict[int, int] = {}
    free = np.ones(len(labels), dtype=bool)
    for place, guess in enumerate(guesses):
        own = np.where(free & (labels == guess), overlaps[place], 0.0)
        if own.size and own.max() >= iou_thr and own.max() > 0:
            matches[place] = int(own.argmax())
            free[matches[place]] = False
    pairs = np.argwhere((overlaps >= iou_thr) & (overlaps > 0))
    for place, number in pairs[np.argsort(-overlaps[tuple(pairs.T)], kind="stable")].tolist():
        if place not in matches and free[number]:
            matches[place] = number
            free[number] = False
    return matches
