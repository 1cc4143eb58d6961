"""Images with instances in COCO's format, for training and evaluating detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ...registry import DATASETS, TRANSFORMS
from ...seeding import derive_seed, isolated_randomness
from ..common.decoding import UNREADABLE, BrokenImageError, decode_rgb
from ..common.replacement import read_or_replace
from ..common.samplers import SampleKey
from .annotated_image import AnnotatedImage
from .checks import check_coco
from .coco_annotations import CocoAnnotations


@DATASETS.register_module()
class CocoDetection(Dataset[dict[str, Any]]):
    """A detection data set in COCO's format: COCO itself, or one's own.

    A sample depends on (seed, epoch, index, repeat) alone: not on the worker that makes it, on what was made before,
    or on where a run was resumed.

    A broken image (truncated, damaged, unreadable) is replaced in training by another one, chosen at random from the
    sample's own seed, and its path is listed in the sample; in evaluation it raises, because a figure over other
    images would be wrong.

    Labels are numbered from 0 by ascending category id, whatever the ids are; `categories` leads back. Crowds are
    `ignored_boxes`, and so are instances without a mask where masks are asked for. Instances that mmdet leaves out
    (with a box thinner than a pixel or outside of the image, or without area) are left out; boxes are clipped to the
    image.

    Args:
        root: the folder of the data set.
        split: the folder of the images in `root`; None where they lie in `root` itself.
        annotations: the annotation file, as it stands or in `root`; None is annotations/instances_<split>.json in
            `root`.
        transform: a config of TRANSFORMS, or a callable from an AnnotatedImage to a dict.
        classes: names of the categories to take; None takes all.
        filter_empty: leave out images without an annotation of the chosen classes (a crowd counts as one); None as the
            transform's `training` says. In evaluation every image counts.
        min_size: images with a side shorter than this, in pixels, are left out in the same case. mmdet has 32.
        with_masks: give masks, where the transform trains.
        seed: of augmentation and of replacing broken images.
        num_classes: how many classes there must be; None takes any number.
        replace_broken: True as in training, False as in evaluation; None as the transform's `training` says.
        max_retries: how many broken images in a row make a training sample fail.

    Attributes:
        ann_file: the annotation file.
        folder: of the images.
        classes: names, by label.
        categories: category ids in the file, by label.
        metainfo: `classes`, `categories` and `ann_file` for metrics.
        image_ids: (images,) int64, the file's ids.
        aspect_ratios: (images,) float32, width over height.

    Raises:
        ValueError: the annotation file is missing or wrong, no image is left, or the number of classes is not
            `num_classes`.
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
        seed: int = 0,
        num_classes: int | None = None,
        replace_broken: bool | None = None,
        max_retries: int = 10,
    ) -> None:
        if transform is None:
            raise ValueError("A data set needs a transform, such as dict(type='DetectionTest', scale=(1333, 800)).")
        self.folder = Path(root, split) if split else Path(root)
        self.ann_file = _annotation_file(root, split, annotations)
        self.transform: Callable[[AnnotatedImage], dict[str, Any]] = (
            TRANSFORMS.build(transform) if isinstance(transform, dict) else transform
        )
        self.training: bool = getattr(self.transform, "training", False)
        self.with_masks = with_masks
        self.seed = seed
        self.replace_broken = self.training if replace_broken is None else replace_broken
        self.max_retries = max_retries
        self.annotations = CocoAnnotations(self.ann_file, classes, with_masks)
        self.classes = self.annotations.classes
        self.categories = self.annotations.categories
        self.metainfo = {"classes": self.classes, "categories": self.categories, "ann_file": str(self.ann_file)}
        if num_classes is not None and num_classes != len(self.classes):
            raise ValueError(
                f"{self} has {len(self.classes)} classes, not num_classes={num_classes}: correct the number, or choose "
                "with classes=[...]."
            )
        self._chosen = np.arange(len(self.annotations))
        if self.training if filter_empty is None else filter_empty:
            wide_enough = self.annotations.sizes.min(axis=1, initial=min_size) >= min_size
            self._chosen = np.flatnonzero(self.annotations.annotated & wide_enough)
        if not len(self._chosen):
            raise ValueError(
                f"{self} is empty: of the file's {len(self.annotations)} images none has an annotation of "
                f"{', '.join(self.classes[:5])}{' ...' if len(self.classes) > 5 else ''} and sides from {min_size} "
                "pixels on. Set filter_empty=False to keep such images."
            )
        self.image_ids = self.annotations.image_ids[self._chosen]
        sizes = self.annotations.sizes[self._chosen].astype(np.float32)
        self.aspect_ratios = sizes[:, 1] / sizes[:, 0]

    def __str__(self) -> str:
        return f"The data set {self.ann_file}"

    def __len__(self) -> int:
        return len(self._chosen)

    def path(self, index: int) -> str:
        """The path of an image."""
        return str(self.folder / self.annotations.names[int(self._chosen[index])].decode())

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Reads, decodes and transforms one image.

        Args:
            key: of a sampler; a plain index counts as epoch 0.

        Returns:
            What the transform gives: `image` (3, height, width) uint8, `info` and `target` (or `views` in test-time
            augmentation); `image_id`, `index`, `epoch` and `repeat` as int; `path`; `broken`, the paths of broken
            images that this one replaces. `index` is the one asked for, all else is of the image given.

        Raises:
            BrokenImageError: in evaluation, the image is broken; in training, `max_retries` more were, too.
            IndexError: there is no such sample.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        if not 0 <= key.index < len(self):
            raise IndexError(f"{self} has no sample {key.index}: its {len(self)} are numbered from 0.")
        seeds = (self.seed, key.epoch, key.index, key.repeat)
        image, index, broken = read_or_replace(
            self._read, key.index, len(self), seeds, self.replace_broken, self.max_retries
        )
        with isolated_randomness(derive_seed(*seeds, stream="augmentation")):
            sample = self.transform(self._annotate(image, index))
        return {
            **sample,
            "image_id": int(self.image_ids[index]),
            "index": key.index,
            "epoch": key.epoch,
            "repeat": key.repeat,
            "path": self.path(index),
            "broken": broken,
        }

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, as the annotation file says."""
        height, width = self.annotations.sizes[self._chosen[index]].tolist()
        return height, width

    def check(self) -> list[str]:
        """Looks for errors before they show in training; see `check_coco`.

        Returns:
            What is odd, but no error.

        Raises:
            ValueError: there are errors; the message lists them all.
        """
        return check_coco(self)

    def load(self, index: int) -> AnnotatedImage:
        """Reads an image with its instances, before any transform.

        Raises:
            BrokenImageError: it cannot be read.
        """
        return self._annotate(self._read(index), index, annotated=True)

    def _read(self, index: int) -> np.ndarray:
        path = self.path(index)
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except UNREADABLE as error:
            raise BrokenImageError.of(path, f"{type(error).__name__}: {error}") from error
        with file:
            image = np.asarray(decode_rgb(file, path))
        expected = self.size(index)
        if image.shape[:2] != expected:
            reason = (
                f"it has {image.shape[0]}x{image.shape[1]} pixels, its annotation file says {expected[0]}x{expected[1]}"
            )
            raise BrokenImageError.of(path, reason)
        return image

    def _annotate(self, image: np.ndarray, index: int, annotated: bool | None = None) -> AnnotatedImage:
        sample = AnnotatedImage(image, (image.shape[0], image.shape[1]))
        if not (self.training if annotated is None else annotated):
            return sample
        instances = self.annotations.instances(int(self._chosen[index]))
        boxes = self.annotations.boxes[instances].astype(np.float64)
        labels = self.annotations.labels[instances].astype(np.int64)
        ignored = self.annotations.crowd[instances].copy()
        if self.with_masks:
            shapes = [self.annotations.shape(number) for number in range(instances.start, instances.stop)]
            ignored |= np.array([shape is None for shape in shapes], dtype=bool)
            sample.shapes = [shape for shape, out in zip(shapes, ignored, strict=True) if not out]
        sample.boxes, sample.labels, sample.ignored_boxes = boxes[~ignored], labels[~ignored], boxes[ignored]
        return sample


def _annotation_file(root: str, split: str | None, annotations: str | None) -> Path:
    """Finds the annotation file."""
    if annotations is None:
        if split is None:
            raise ValueError("Without a split, give the annotation file: annotations='...json'.")
        return Path(root, "annotations", f"instances_{split}.json")
    given = Path(annotations)
    return given if given.is_file() or not Path(root, given).is_file() else Path(root, given)
