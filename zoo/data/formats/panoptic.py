"""Reads annotation files in COCO's panoptic format."""

from __future__ import annotations

import os
from typing import Any

from ..common.text_files import read_json
from .file_errors import (
    CATEGORY,
    FILE_NAME,
    IMAGE_ID,
    Field,
    FileErrors,
    check_entries,
    check_unique,
    entry_name,
    is_flag,
    is_id,
    repeated,
    shortened,
)

MAX_SEGMENT_ID = 2**24 - 1
"""Segment ids are colors of 24 bits; 0 marks pixels without a segment."""


def _is_segment_id(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_SEGMENT_ID


def _is_color(value: Any) -> bool:
    return value is None or (
        type(value) is list and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)
    )


_CATEGORY = (
    *CATEGORY,
    Field("isthing", "must be 0 or 1", is_flag, optional=True),
    Field("color", "must be [red, green, blue], three integers in [0, 255]", _is_color, optional=True),
)
_ANNOTATION = (
    Field("image_id", "must be an integer of at most 64 bits", is_id),
    FILE_NAME,
    Field("segments_info", "must be a list", lambda value: type(value) is list),
)
_SEGMENT = (
    Field("id", f"must be an integer in [1, {MAX_SEGMENT_ID}]", _is_segment_id),
    Field("category_id", "must be an integer of at most 64 bits", is_id),
)


def read_panoptic(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a panoptic annotation file and checks it.

    Returns:
        A dict with the lists `images` (each with `id` and `file_name`), `annotations` (with `image_id`, `file_name` and
        `segments_info`, a list of dicts with `id` and `category_id`) and `categories` (with `id`, `name` and optionally
        `isthing` and `color`).

    Raises:
        ValueError: If the file cannot be read or is not in this format, entries have wrong values, ids are not unique,
            or annotations refer to images or categories that are not in the file. The message has a line per kind of
            error, with up to ten ids.
    """
    content = read_json(file)
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not isinstance(content, dict) or type(content.get(key)) is not list]
    if missing:
        raise ValueError(f"{file} is not an annotation file in COCO's format: it lacks the lists {', '.join(missing)}.")
    images, annotations, categories = (content[key] for key in wanted)
    if any(isinstance(entry, dict) and "segments_info" not in entry for entry in annotations[:1]):
        raise ValueError(f"{file} has no `segments_info`: it is not a panoptic annotation file (panoptic_*.json).")
    errors = FileErrors(file)
    check_entries(images, (IMAGE_ID, FILE_NAME), "image", errors)
    check_entries(categories, _CATEGORY, "category", errors)
    if check_entries(annotations, _ANNOTATION, "annotation", errors):
        _check_segments(annotations, errors)
    errors.raise_if_any()
    _check_references(images, annotations, categories, errors)
    errors.raise_if_any()
    return content


def _check_segments(annotations: list[dict[str, Any]], errors: FileErrors) -> None:
    owners = [(entry["image_id"], number) for entry in annotations for number in range(len(entry["segments_info"]))]
    segments = [segment for entry in annotations for segment in entry["segments_info"]]

    def name(index: int) -> str:
        image, number = owners[index]
        return f"{entry_name('segment', segments[index], number)} of image {image}"

    check_entries(segments, _SEGMENT, "segment", errors, name)


def _check_references(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    errors: FileErrors,
) -> None:
    check_unique([image["id"] for image in images], "images", errors)
    check_unique([category["id"] for category in categories], "categories", errors)
    errors.add(
        "an image must have one annotation",
        (f"image {key} has several" for key in repeated([entry["image_id"] for entry in annotations])),
    )
    known, known_categories = {image["id"] for image in images}, {category["id"] for category in categories}
    errors.add(
        "the image of an annotation must be in the file",
        (f"annotation has image_id {entry['image_id']}" for entry in annotations if entry["image_id"] not in known),
    )
    for entry in annotations:
        segments = entry["segments_info"]
        image = entry["image_id"]
        if not known_categories.issuperset(segment["category_id"] for segment in segments):
            errors.add(
                "the category of a segment must be in the file",
                (
                    f"segment {segment['id']} of image {image} has category_id {segment['category_id']}"
                    for segment in segments
                    if segment["category_id"] not in known_categories
                ),
            )
        ids = [segment["id"] for segment in segments]
        if len(set(ids)) < len(ids):
            errors.add(
                "ids of the segments of an image must be unique",
                (f"{shortened(key)} is used twice in image {image}" for key in repeated(ids)),
            )
