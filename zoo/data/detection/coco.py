"""Images with instances in COCO's format, for training and evaluating detectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...registry import DATASETS
from ..common.decoding import BrokenImageError
from ..common.paths import missing_path
from ..formats.coco import CocoAnnotations, read_categories
from . import coco_classes
from .annotated_image import AnnotatedImage
from .checks import check_coco
from .dataset import DetectionDataset

_COCO_FILE = re.compile(r"instances_(train|val)20(14|17)(\.json)?")
"""Names of COCO's own annotation files."""


@DATASETS.register_module()
class CocoDetection(DetectionDataset):
    """A detection data set in COCO's format: COCO itself, or your own.

    Labels are numbered from 0 by ascending category id, whatever the ids are; `categories` maps them back. Crowds
    become `ignored_boxes`, and with `with_masks` so do instances without a mask. As in mmdet, instances are dropped if
    their box is thinner than a pixel or outside of the image, or their area is 0. Boxes are clipped to the image.

    Args:
        root: Folder of the data set.
        split: Folder of the images, in `root`; None if they are in `root` itself.
        annotations: Path of the annotation file, absolute or relative to `root`. None is
            annotations/instances_<split>.json in `root`.
        transform: Config of a registered transform, or a callable from an AnnotatedImage to a dict.
        classes: Names of the categories to use; None uses all.
        filter_empty: Whether to drop images without an annotation of the chosen classes (crowds count), or with a side
            shorter than `min_size`. None drops them if the transform is for training.
        min_size: Minimum side of an image in pixels with `filter_empty`. mmdet uses 32.
        with_masks: Whether samples for training have masks.
        **options: See `ImageDataset`.

    Attributes:
        ann_file: Path of the annotation file.
        folder: Folder of the images.
        annotations: Content of the annotation file.
        categories: Category ids in the file, by label.
        metainfo: `classes`, `categories` and `ann_file`.
        image_ids: (images,) int64, ids in the file.
        aspect_ratios: (images,) float32, width / height.

    Raises:
        ValueError: If the annotation file is missing or wrong, or no image is left; or see `ImageDataset`.
    """

    def __init__(
        self,
        root: str,
        split: str | None = None,
        annotations: str | None = None,
        transform: dict[str, Any] | Callable[[AnnotatedImage], dict[str, Any]] | None = None,
        classes: Sequence[str] | None = None,
        filter_empty: bool | None = None,
        min_size: int = 32,
        with_masks: bool = True,
        **options: Any,
    ) -> None:
        self.folder = Path(root, split) if split else Path(root)
        self.ann_file = _annotation_file(root, split, annotations)
        self.with_masks = with_masks
        self.annotations = CocoAnnotations(self.ann_file, classes, with_masks)
        super().__init__(str(self.ann_file), self.annotations.classes, transform, **options)
        self.categories = self.annotations.categories
        self.metainfo |= {"categories": self.categories, "ann_file": str(self.ann_file)}
        self._chosen = np.arange(len(self.annotations))
        if self.training if filter_empty is None else filter_empty:
            wide_enough = self.annotations.sizes.min(axis=1, initial=min_size) >= min_size
            self._chosen = np.flatnonzero(self.annotations.has_annotation & wide_enough)
        if not len(self._chosen):
            raise ValueError(
                f"{self} is empty: none of the {len(self.annotations)} images in the file has an annotation of "
                f"{', '.join(self.classes[:5])}{' ...' if len(self.classes) > 5 else ''} and sides of at least "
                f"{min_size} pixels. Set filter_empty=False to keep all images."
            )
        self.image_ids = self.annotations.image_ids[self._chosen]
        sizes = self.annotations.sizes[self._chosen].astype(np.float32)
        self.aspect_ratios = sizes[:, 1] / sizes[:, 0]

    @classmethod
    def class_names(cls, **arguments: Any) -> tuple[str, ...] | None:
        """Reads the categories of the annotation file. If it does not exist, only COCO's own files have known names."""
        root, split, annotations = (arguments.get(name) for name in ("root", "split", "annotations"))
        chosen = arguments.get("classes")
        if not (split or annotations):
            return None
        file = _annotation_file(root or "", split, annotations)
        categories = read_categories(file)
        if categories is not None:
            names = tuple(categories[category_id] for category_id in sorted(categories))
        elif _COCO_FILE.fullmatch(file.name):
            names = coco_classes.CLASSES
        else:
            return None if chosen is None else tuple(chosen)
        # Labels follow the category ids, in whatever order the classes are chosen.
        return tuple(name for name in names if chosen is None or name in chosen)

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Checks that `root`, the annotation file and the folder of images exist."""
        root, split, annotations = (arguments.get(name) for name in ("root", "split", "annotations"))
        if not root:
            return
        if not Path(root).exists():
            yield missing_path("root", root)
            return
        if split and not Path(root, split).is_dir():
            yield missing_path("split", Path(root, split))
        if split or annotations:
            file = _annotation_file(root, split, annotations)
            if not file.is_file():
                yield missing_path("annotations", file)

    def __len__(self) -> int:
        return len(self._chosen)

    def path(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self.folder / self.annotations.file_names[int(self._chosen[index])].decode())

    def size(self, index: int) -> tuple[int, int]:
        """Returns an image's (height, width) in pixels, according to the annotation file."""
        height, width = self.annotations.sizes[self._chosen[index]].tolist()
        return height, width

    def image_id(self, index: int) -> int:
        """Returns an image's id in the annotation file."""
        return int(self.image_ids[index])

    def check(self) -> list[str]:
        """Compares the annotation file with itself and with the images; see `check_coco`."""
        return check_coco(self)

    def load(self, index: int) -> AnnotatedImage:
        """Reads an image and its instances.

        Raises:
            BrokenImageError: If the image cannot be read, or has another size than the annotation file says.
        """
        image = np.asarray(self.read_image(index))
        expected = self.size(index)
        if image.shape[:2] != expected:
            reason = (
                f"it has {image.shape[0]}x{image.shape[1]} pixels, its annotation file says {expected[0]}x{expected[1]}"
            )
            raise BrokenImageError.of(self.path(index), reason)
        instances = self.annotations.instances(int(self._chosen[index]))
        boxes = self.annotations.boxes[instances].astype(np.float64)
        labels = self.annotations.labels[instances].astype(np.int64)
        ignored = self.annotations.is_crowd[instances].copy()
        loaded = AnnotatedImage(image, expected)
        if self.with_masks:
            masks = [self.annotations.segmentation(number) for number in range(instances.start, instances.stop)]
            ignored |= np.array([mask is None for mask in masks], dtype=bool)
            loaded.segmentations = [mask for mask, ignore in zip(masks, ignored, strict=True) if not ignore]
        loaded.boxes, loaded.labels, loaded.ignored_boxes = boxes[~ignored], labels[~ignored], boxes[ignored]
        return loaded


def _annotation_file(root: str, split: str | None, annotations: str | None) -> Path:
    """Returns the path of the annotation file."""
    if annotations is None:
        if split is None:
            raise ValueError("Set split, or the annotation file: annotations='...json'.")
        return Path(root, "annotations", f"instances_{split}.json")
    given = Path(annotations)
    return given if given.is_file() or not Path(root, given).is_file() else Path(root, given)
