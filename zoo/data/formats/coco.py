"""Reads annotation files in COCO's format into a few arrays.

As Python objects, the 860 000 annotations of COCO's training set take gigabytes, and every worker process copies them
page by page as it touches their reference counts. As arrays they take a few hundred megabytes, which workers share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....deprecated_paths import renamed_names
from ....names import unknown_name
from ..common.text_files import read_json
from .file_errors import (
    CATEGORY,
    FILE_NAME,
    IMAGE_ID,
    INSTANCE,
    SIZE,
    FileErrors,
    check_entries,
    check_references,
    check_unique,
    entry_name,
    repeated,
    shortened,
)
from .segmentations import Segmentation, pack_segmentations, unpack_segmentation

_CATEGORIES_KEY = b'"categories"'
_MAX_CATEGORIES_BYTES = 2**22


class PackedBytes:
    """A list of byte strings, stored in two arrays."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(pieces), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes()

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self._ends.nbytes + self._bytes.nbytes


@dataclasses.dataclass
class Problems:
    """What is unusual about an annotation file, by kind. The lists contain the ids of all cases.

    Attributes:
        duplicate_files: File names that several images have.
        outside: Ids of annotations whose box extends more than a pixel beyond the image and was clipped.
        degenerate: Ids of annotations that are left out: the box is thinner than a pixel or entirely outside of the
            image, or the area is 0.
        maskless: Ids of annotations (except crowds) without a mask, if masks are wanted.
    """

    duplicate_files: list[str] = dataclasses.field(default_factory=list)
    outside: list[Any] = dataclasses.field(default_factory=list)
    degenerate: list[Any] = dataclasses.field(default_factory=list)
    maskless: list[Any] = dataclasses.field(default_factory=list)


class CocoAnnotations:
    """Images and instances of an annotation file.

    Instances are those of the chosen classes, except for those that mmdet leaves out, too: with `ignore`, with a box
    thinner than a pixel or entirely outside of the image, or with an `area` of 0.

    Args:
        file: JSON with `images`, `categories` and `annotations`, such as COCO's instances_*.json.
        classes: Names of the categories to use; None uses all. Either way, labels follow ascending category ids.
        with_masks: Whether masks are read.

    Attributes:
        classes: Names by label.
        categories: Category ids by label.
        all_categories: All category ids of the file.
        image_ids: (images,) int64.
        sizes: (images, 2) int32, height and width in pixels.
        file_names: Names of the image files, UTF-8.
        has_annotation: (images,) bool, whether there is an annotation of the chosen classes, including crowds and
            those that are left out.
        offsets: (images + 1,) int64: the instances of image i are offsets[i] to offsets[i + 1].
        boxes: (instances, 4) float32, x1, y1, x2, y2 in pixels, clipped to the image.
        labels: (instances,) int32.
        is_crowd: (instances,) bool.
        problems: What is unusual about the file.

    Raises:
        ValueError: If the file does not exist, is not in COCO's format, or lacks a class; if entries have wrong values,
            ids are not unique, or annotations refer to images or categories that are not in the file. The message has a
            line per kind of error, with up to ten ids.
    """

    def __init__(self, file: Path, classes: Sequence[str] | None = None, with_masks: bool = True) -> None:
        self.file = file
        with _gc_paused():
            self._load(file, classes, with_masks)

    def _load(self, file: Path, classes: Sequence[str] | None, with_masks: bool) -> None:
        content = _read(file)
        errors = FileErrors(file)
        self.problems = Problems()
        self.categories, self.classes = self._choose(content["categories"], classes)
        self.all_categories = tuple(sorted(category["id"] for category in content["categories"]))
        self._take_images(content["images"], errors)
        self._take_annotations(content["annotations"], with_masks, errors)
        errors.raise_if_any()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        held = [value for value in vars(self).values() if isinstance(value, np.ndarray | PackedBytes)]
        return sum(value.nbytes for value in held)

    def instances(self, image: int) -> slice:
        """Returns the range of an image's instances."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def segmentation(self, instance: int) -> Segmentation:
        """Returns an instance's mask as in the file."""
        assert self._segmentations is not None, "The file was read without masks."
        return unpack_segmentation(self._segmentations[instance])

    def _choose(self, categories: Sequence[Mapping[str, Any]], classes: Sequence[str] | None):
        """Returns the ids and names of the chosen categories, by ascending id."""
        names = {category["id"]: str(category["name"]) for category in categories}
        if not names:
            raise ValueError(f"{self.file} has no categories: its list 'categories' is empty.")
        if len(names) < len(categories) or len(set(names.values())) < len(names):
            given = ", ".join(f"{category['id']} ({category['name']})" for category in categories)
            raise ValueError(
                f"{self.file} has several categories with the same id or name: {given}. Rename or remove them."
            )
        for name in classes or ():
            if name not in names.values():
                raise ValueError(f"{self.file}: {unknown_name('category', name, names.values())}")
        if classes is not None and (not classes or len(set(classes)) < len(classes)):
            raise ValueError(f"classes must name at least one category, and each only once, got {list(classes)}.")
        chosen = [key for key in sorted(names) if classes is None or names[key] in classes]
        return tuple(chosen), tuple(names[key] for key in chosen)

    def _take_images(self, images: Sequence[Mapping[str, Any]], errors: FileErrors) -> None:
        self.image_ids = np.array([image["id"] for image in images], dtype=np.int64)
        self.sizes = np.array([(image["height"], image["width"]) for image in images], dtype=np.int32).reshape(-1, 2)
        self.file_names = PackedBytes([image["file_name"].encode() for image in images])
        check_unique(self.image_ids.tolist(), "images", errors)
        self.problems.duplicate_files = repeated([image["file_name"] for image in images])

    def _take_annotations(self, annotations: Sequence[Mapping[str, Any]], with_masks: bool, errors: FileErrors) -> None:
        def named(chosen: np.ndarray) -> list[Any]:
            return [annotations[index].get("id", f"number {index}") for index in np.flatnonzero(chosen).tolist()]

        images, labels = self._references(annotations, errors)
        found = (images >= 0) & (labels >= 0)
        self.has_annotation = np.zeros(len(self), dtype=bool)
        self.has_annotation[images[found]] = True
        found &= ~np.array([bool(annotation.get("ignore")) for annotation in annotations], dtype=bool)
        given = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
        boxes, inside, outside = _clipped(given, self.sizes[images] if len(self) else np.zeros((len(images), 2)))
        kept = inside & (np.array([annotation.get("area", 1) for annotation in annotations], dtype=np.float64) > 0)
        self.problems.degenerate = named(found & ~kept)
        kept &= found
        self.problems.outside = named(kept & outside)
        crowds = np.array([bool(annotation.get("iscrowd")) for annotation in annotations], dtype=bool)

        indices = np.flatnonzero(kept)
        indices = indices[np.argsort(images[indices], kind="stable")]  # in the file's order within an image
        counts = np.bincount(images[indices], minlength=len(self))
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.boxes = boxes[indices].astype(np.float32)
        self.labels = labels[indices].astype(np.int32)
        self.is_crowd = crowds[indices]
        self._segmentations = None
        if with_masks:
            segmentations = pack_segmentations(
                [annotations[index].get("segmentation") for index in indices.tolist()],
                self.sizes[images[indices]],
                lambda number: entry_name("annotation", annotations[indices[number]], int(indices[number])),
                errors,
            )
            maskless = np.zeros(len(annotations), dtype=bool)
            maskless[indices] = [not piece for piece in segmentations]
            self.problems.maskless = named(maskless & ~crowds)
            self._segmentations = PackedBytes(segmentations)

    def _references(
        self, annotations: Sequence[Mapping[str, Any]], errors: FileErrors
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the index of each annotation's image and its label, -1 for categories that are not chosen."""
        index_of = {image_id: index for index, image_id in enumerate(self.image_ids.tolist())}
        label_of = dict.fromkeys(self.all_categories, -1) | {key: label for label, key in enumerate(self.categories)}
        images = [index_of.get(annotation["image_id"], -1) for annotation in annotations]
        labels = [label_of.get(annotation["category_id"], -2) for annotation in annotations]
        check_unique([annotation.get("id") for annotation in annotations], "annotations", errors)
        check_references(annotations, index_of, label_of, errors)
        return np.array(images, dtype=np.int64), np.array(labels, dtype=np.int64)


def _clipped(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips boxes to their images.

    Args:
        boxes: (n, 4): x, y, width, height in pixels.
        sizes: (n, 2): height, width of the images.

    Returns:
        (n, 4): x1, y1, x2, y2; (n,) bool, whether boxes are at least one pixel wide and high and partly inside of the
        image; (n,) bool, whether they extended more than a pixel beyond it.
    """
    low, high, limits = boxes[:, :2], boxes[:, :2] + boxes[:, 2:], sizes[:, ::-1]
    outside = np.any((low < -1) | (high > limits + 1), axis=1)
    clipped = np.concatenate([np.maximum(low, 0), np.minimum(high, limits)], axis=1)
    inside = np.all((boxes[:, 2:] >= 1) & (clipped[:, 2:] > clipped[:, :2]), axis=1)
    return clipped, inside, outside


def read_categories(file: Path) -> dict[int, str] | None:
    """Reads the categories of an annotation file without parsing the rest of it, which can take many seconds.

    Returns:
        Names by category id; None if the file cannot be read, or has no categories at its beginning or end.
    """
    try:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            places = {content.rfind(_CATEGORIES_KEY), content.find(_CATEGORIES_KEY)} - {-1}
            texts = [content[place : place + _MAX_CATEGORIES_BYTES].decode(errors="ignore") for place in places]
    except (OSError, ValueError):  # mmap refuses empty files
        return None
    for text in texts:
        try:
            categories, _ = json.JSONDecoder().raw_decode(text.partition(":")[2].lstrip())
        except (ValueError, RecursionError):
            continue
        if isinstance(categories, list) and check_entries(categories, CATEGORY, "category", FileErrors(file)):
            return {category["id"]: str(category["name"]) for category in categories}
    return None


@contextlib.contextmanager
def _gc_paused() -> Iterator[None]:
    """Disables the garbage collector, which would take longer on millions of new objects than creating them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(file: Path) -> dict[str, Any]:
    """Reads the JSON and checks that its entries are those of COCO's format."""
    if not file.is_file():
        raise ValueError(f"There is no annotation file {file}.")
    content = read_json(file)
    wanted = ("images", "categories", "annotations")
    given = shortened(sorted(content)) if isinstance(content, dict) else type(content).__name__
    lacking = [key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking == ["annotations"] and "annotations" not in content:
        content["annotations"] = []  # COCO's image_info_test-*.json
    elif lacking:
        raise ValueError(
            f"{file} is not a COCO annotation file: it lacks the lists {', '.join(lacking)}; it has {given}."
        )
    errors = FileErrors(file)
    check_entries(content["images"], (IMAGE_ID, FILE_NAME, *SIZE), "image", errors)
    check_entries(content["categories"], CATEGORY, "category", errors)
    if any(isinstance(entry, dict) and "segments_info" in entry for entry in content["annotations"][:1]):
        raise ValueError(f"{file} is a panoptic annotation file, without boxes; instances_*.json has them.")
    check_entries(content["annotations"], INSTANCE, "annotation", errors)
    errors.raise_if_any()
    return content


__getattr__ = renamed_names(__name__, {"Shape": "Segmentation"})
