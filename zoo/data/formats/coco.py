"""Reads annotation files in COCO's format into a few arrays.

As Python objects, the 860 000 annotations of COCO's training set take gigabytes, and every worker process copies them
page by page as it touches their reference counts. As arrays they take a few hundred megabytes, which workers share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import json
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from ....deprecated_paths import renamed_names
from ....names import unknown_name

POLYGON_UNITS = 1000
"""Polygons are stored as integers in thousandths of a pixel, which is exact for files with up to 3 decimals."""

Segmentation = list[np.ndarray] | tuple[bytes, tuple[int, int]] | None
"""An instance's mask as in the file: polygons, each (k, 2) float64, x and y in pixels; or COCO's compressed run lengths
and the mask's (height, width); or None."""


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
    """What is wrong with an annotation file, by kind. The lists contain the ids or short descriptions of all cases.

    Attributes:
        duplicate_images: Ids that several images have.
        duplicate_annotations: Ids that several annotations have.
        duplicate_files: File names that several images have.
        unknown_images: Annotations ("7 (image 3)") of images that are not in the file.
        unknown_categories: Annotations ("7 (category 9)") of categories that are not in the file.
        mask_sizes: Annotations whose run-length mask has another size than its image.
        outside: Ids of annotations whose box extends more than a pixel beyond the image and was clipped.
        degenerate: Ids of annotations that are left out: the box is thinner than a pixel or entirely outside of the
            image, or the area is 0.
        maskless: Ids of annotations (except crowds) without a mask, if masks are wanted.
    """

    duplicate_images: list[Any] = dataclasses.field(default_factory=list)
    duplicate_annotations: list[Any] = dataclasses.field(default_factory=list)
    duplicate_files: list[str] = dataclasses.field(default_factory=list)
    unknown_images: list[str] = dataclasses.field(default_factory=list)
    unknown_categories: list[str] = dataclasses.field(default_factory=list)
    mask_sizes: list[str] = dataclasses.field(default_factory=list)
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
        problems: What is wrong with the file.

    Raises:
        ValueError: If the file does not exist, is not in COCO's format, has two categories with the same id or name, or
            lacks a class.
    """

    def __init__(self, file: Path, classes: Sequence[str] | None = None, with_masks: bool = True) -> None:
        self.file = file
        with _gc_paused():
            self._load(file, classes, with_masks)

    def _load(self, file: Path, classes: Sequence[str] | None, with_masks: bool) -> None:
        content = _read(file)
        self.problems = Problems()
        self.categories, self.classes = self._choose(content["categories"], classes)
        self._take_images(content["images"])
        self.all_categories = tuple(sorted(category["id"] for category in content["categories"]))
        self._take_annotations(content["annotations"], with_masks)

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
        piece = self._segmentations[instance]
        if not piece:
            return None
        count, height, width = np.frombuffer(piece[:12], dtype=np.int32)
        if count == 0:
            return piece[12:], (int(height), int(width))
        sides = np.frombuffer(piece[12 : 12 + 4 * count], dtype=np.int32)
        points = np.frombuffer(piece[12 + 4 * count :], dtype=np.int32).reshape(-1, 2) / POLYGON_UNITS
        return np.split(points, np.cumsum(sides)[:-1])

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

    def _take_images(self, images: Sequence[Mapping[str, Any]]) -> None:
        self.image_ids = np.array([image["id"] for image in images], dtype=np.int64)
        self.sizes = np.array([(image["height"], image["width"]) for image in images], dtype=np.int32).reshape(-1, 2)
        self.file_names = PackedBytes([image["file_name"].encode() for image in images])
        self.problems.duplicate_images = _repeated(self.image_ids.tolist())
        self.problems.duplicate_files = _repeated([image["file_name"] for image in images])

    def _take_annotations(self, annotations: Sequence[Mapping[str, Any]], with_masks: bool) -> None:
        problems = self.problems
        index_of = {image_id: index for index, image_id in enumerate(self.image_ids.tolist())}
        labels = {category: label for label, category in enumerate(self.categories)}
        problems.duplicate_annotations = _repeated([annotation.get("id") for annotation in annotations])
        kept: list[tuple[int, tuple[float, ...], int, bool]] = []
        segmentations: list[bytes] = []
        self.has_annotation = np.zeros(len(self), dtype=bool)
        for number, annotation in enumerate(annotations):
            name = annotation.get("id", f"number {number}")
            image, category = index_of.get(annotation["image_id"]), annotation["category_id"]
            if image is None:
                problems.unknown_images.append(f"{name} (image {annotation['image_id']})")
                continue
            if category not in labels:
                if category not in self.all_categories:
                    problems.unknown_categories.append(f"{name} (category {category})")
                continue
            self.has_annotation[image] = True
            if annotation.get("ignore", False):
                continue
            height, width = self.sizes[image].tolist()
            box, clipped = self._box(annotation, name, height, width)
            if box is None or annotation.get("area", 1) <= 0:
                problems.degenerate.append(name)
                continue
            if clipped:
                problems.outside.append(name)
            crowd = bool(annotation.get("iscrowd", False))
            segmentation = self._pack(annotation.get("segmentation"), name, height, width) if with_masks else b""
            if with_masks and not segmentation and not crowd:
                problems.maskless.append(name)
            kept.append((image, box, labels[category], crowd))
            segmentations.append(segmentation)
        order = sorted(range(len(kept)), key=lambda number: kept[number][0])  # stable: file order within an image
        counts = np.bincount([kept[number][0] for number in order], minlength=len(self))
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.boxes = np.array([kept[number][1] for number in order], dtype=np.float32).reshape(-1, 4)
        self.labels = np.array([kept[number][2] for number in order], dtype=np.int32)
        self.is_crowd = np.array([kept[number][3] for number in order], dtype=bool)
        self._segmentations = PackedBytes([segmentations[number] for number in order]) if with_masks else None

    def _box(self, annotation: Mapping[str, Any], name: Any, height: int, width: int):
        """Returns a box clipped to the image, or None if nothing is left, and whether it extended beyond the image."""
        try:
            x, y, w, h = (float(value) for value in annotation["bbox"])
        except (TypeError, ValueError, KeyError) as error:
            given = annotation.get("bbox")
            raise ValueError(
                f"{self.file}: annotation {name} needs a bbox [x, y, width, height] in pixels, got {given!r}."
            ) from error
        outside = x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1
        inside_w, inside_h = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
        # Written with `not`, because comparisons with NaN are False.
        if not (w >= 1 and h >= 1 and inside_w > 0 and inside_h > 0):
            return None, outside
        return (max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)), outside

    def _pack(self, segmentation: Any, name: Any, height: int, width: int) -> bytes:
        """Packs a mask: 12 bytes for the number of polygons (0: run lengths), height and width; then the content."""
        try:
            if isinstance(segmentation, Mapping):
                size = (int(segmentation["size"][0]), int(segmentation["size"][1]))
                if size != (height, width):
                    self.problems.mask_sizes.append(f"{name} ({size[0]}x{size[1]}, its image {height}x{width})")
                counts = segmentation["counts"]
                if isinstance(counts, list):
                    packed: Any = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
                    counts = packed["counts"]
                counts = counts.encode() if isinstance(counts, str) else counts
                return struct.pack("3i", 0, *size) + counts
            # A polygon needs 3 points; mmdet drops those with fewer, too.
            rings = [ring for ring in segmentation or () if len(ring) >= 6 and len(ring) % 2 == 0]
            if not rings:
                return b""
            sides = [len(ring) // 2 for ring in rings]
            head = struct.pack(f"{3 + len(rings)}i", len(rings), height, width, *sides)
            points = np.array(rings[0] if len(rings) == 1 else list(itertools.chain(*rings)), dtype=np.float64)
            return head + np.rint(points * POLYGON_UNITS).astype(np.int32).tobytes()
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(
                f"{self.file}: the segmentation of annotation {name} is neither a list of polygons [[x, y, x, y, ...]] "
                f"nor run lengths (dict(size=[height, width], counts=...)): {str(segmentation)[:80]}."
            ) from error


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
            return {category["id"]: str(category["name"]) for category in categories}
        except (ValueError, TypeError, KeyError):
            continue
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
    """Reads the JSON and checks that it is in COCO's format."""
    if not file.is_file():
        raise ValueError(f"There is no annotation file {file}.")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}.") from error
    wanted = ("images", "categories", "annotations")
    given = sorted(content) if isinstance(content, dict) else type(content).__name__
    lacking = [key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking == ["annotations"] and "annotations" not in content:
        content["annotations"] = []  # COCO's image_info_test-*.json
    elif lacking:
        raise ValueError(
            f"{file} is not a COCO annotation file: it lacks the lists {', '.join(lacking)}; it has {given}."
        )
    for key, fields in (("images", ("id", "file_name", "height", "width")), ("categories", ("id", "name"))):
        for number, entry in enumerate(content[key]):
            absent = [field for field in fields if field not in entry]
            if absent:
                raise ValueError(f"{file}: entry {number} of {key!r} lacks {', '.join(absent)}: {str(entry)[:80]}.")
    for number, entry in enumerate(content["annotations"]):
        absent = [field for field in ("image_id", "category_id", "bbox") if field not in entry]
        if absent:
            raise ValueError(
                f"{file}: annotation {entry.get('id', f'number {number}')} lacks {', '.join(absent)}. Panoptic files "
                "have no boxes; instances_*.json has them."
            )
    return content


def _repeated(values: Sequence[Any]) -> list[Any]:
    """Returns the values that occur more than once, without None."""
    seen: set[Any] = set()
    again: dict[Any, None] = {}
    for value in values:
        if value in seen and value is not None:
            again[value] = None
        seen.add(value)
    return list(again)


__getattr__ = renamed_names(__name__, {"Shape": "Segmentation"})
