"""Checks a detection data set before training: the annotation file itself, and whether it fits the images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..common.checks import choose, first_names
from ..common.decoding import BrokenImageError, read_size
from ..formats.coco import CocoAnnotations


class AnnotatedFiles(Protocol):
    """The part of `CocoDetection` that is checked: images and their annotation file.

    Attributes:
        annotations: Content of the annotation file.
        folder: Folder of the images.
        classes: Names by label.
        image_ids: Ids of the images in the annotation file, by index.
        training: Whether the images are for training.
        with_masks: Whether masks are wanted.
    """

    annotations: CocoAnnotations
    folder: Path
    classes: tuple[str, ...]
    image_ids: np.ndarray
    training: bool
    with_masks: bool

    def __len__(self) -> int: ...

    def path(self, index: int) -> str:
        """Returns the path of an image."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Returns an image's (height, width), according to the annotation file."""
        ...


def check_coco(dataset: AnnotatedFiles, most: int = 200, seed: int = 0) -> list[str]:
    """Compares an annotation file with the image files, and looks for what is unusual in it.

    Args:
        dataset: Data set to check.
        most: Number of images, chosen at random, whose size is compared. All image files are checked to exist.
        seed: Seed of that choice.

    Returns:
        Sentences about what is unusual but not an error: clipped boxes, instances that are left out or count as
        ignored, images and classes without instances, duplicate files, unreadable images.

    Raises:
        ValueError: If image files are missing or have another size than the annotation file says, or a training set has
            nothing to learn from. The message has one line per error, with the number of cases, up to five ids, and the
            remedy. (Errors within the annotation file raise when it is read.)
    """
    sizes, unreadable = _wrong_sizes(dataset, choose(len(dataset), most, seed))
    errors = [*_missing_files(dataset), *sizes, *_annotation_errors(dataset)]
    if errors:
        raise ValueError(f"{dataset} has errors:\n" + "\n".join(f"- {error}" for error in errors))
    return [f"{dataset}: {finding}" for finding in (*_findings(dataset), *unreadable)]


def _missing_files(dataset: AnnotatedFiles) -> Iterator[str]:
    """Looks for the image files. Folders are listed once: 100 000 look-ups are slow on a network file system."""
    listed: dict[Path, set[str]] = {}
    missing = []
    for index in range(len(dataset)):
        path = Path(dataset.path(index))
        if path.parent not in listed:
            listed[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in listed[path.parent]:
            missing.append(f"{path} (image {dataset.image_ids[index]})")
    if missing:
        yield (
            f"{len(missing)} of {len(dataset)} image files {_are(missing)} missing: {first_names(missing)}. Correct "
            f"root and split (the folder of images is {dataset.folder}), or remove the images from the annotation file."
        )


def _wrong_sizes(dataset: AnnotatedFiles, chosen: Sequence[int]) -> tuple[list[str], list[str]]:
    """Returns errors about images whose size differs from the annotation file, and findings about unreadable ones."""
    wrong, unreadable = [], []
    for index in chosen:
        path = dataset.path(index)
        height, width = dataset.size(index)
        if not os.path.exists(path):
            continue  # one of `_missing_files`
        try:
            found = read_size(path)
        except BrokenImageError as error:
            unreadable.append(f"{path} ({error.reason})")
            continue
        if found != (height, width):
            wrong.append(f"{path} (image {dataset.image_ids[index]}: {found[0]}x{found[1]}, not {height}x{width})")
    errors = [
        f"{len(wrong)} of {len(chosen)} checked images {_have(wrong)} another height x width than the annotation file "
        f"says: {first_names(wrong)}. Were they resized, or rotated by their EXIF orientation? Annotations must belong "
        "to the files as they are."
    ]
    findings = [f"{len(unreadable)} of {len(chosen)} checked images cannot be read: {first_names(unreadable)}."]
    return errors if wrong else [], findings if unreadable else []


def _annotation_errors(dataset: AnnotatedFiles) -> Iterator[str]:
    """Finds reasons why there is nothing to train on."""
    problems, annotations = dataset.annotations.problems, dataset.annotations
    if not dataset.training:
        return
    counted = int((~annotations.is_crowd).sum())
    if not counted:
        yield (
            f"there is no instance of {first_names(dataset.classes)}: nothing to train on. Correct annotations= or "
            "classes=."
        )
    elif dataset.with_masks and len(problems.maskless) >= counted:
        yield (
            f"none of the {counted} instances has a mask (a list of polygons or run lengths under 'segmentation'). "
            "To train on boxes alone, set with_masks=False."
        )


def _findings(dataset: AnnotatedFiles) -> Iterator[str]:
    """Finds what is unusual in the annotation file but not an error."""
    problems, annotations = dataset.annotations.problems, dataset.annotations
    if problems.outside:
        yield (
            f"{_count(problems.outside, 'box', 'extends', 'extend', plural='boxes')} beyond the image and "
            f"{_are(problems.outside)} clipped: annotation {first_names(problems.outside)}."
        )
    if problems.degenerate:
        yield (
            f"{_count(problems.degenerate, 'instance')} left out, with a box thinner than a pixel or outside of the "
            f"image, or without area: annotation {first_names(problems.degenerate)}."
        )
    if problems.maskless and dataset.training:
        yield (
            f"{_count(problems.maskless, 'instance', 'has', 'have')} no mask and so {_are(problems.maskless)} neither "
            f"object nor background in training: annotation {first_names(problems.maskless)}. To train on boxes alone, "
            "set with_masks=False."
        )
    if problems.duplicate_files:
        yield (
            f"{_count(problems.duplicate_files, 'file')} listed as several images: "
            f"{first_names(problems.duplicate_files)}."
        )
    left_out = len(annotations) - len(dataset)
    if left_out:
        yield (
            f"{left_out} of {len(annotations)} images {'is' if left_out == 1 else 'are'} left out: without an "
            "annotation of the classes, or with a side shorter than min_size."
        )
    seen = np.bincount(annotations.labels[~annotations.is_crowd], minlength=len(dataset.classes))
    unseen = [name for name, count in zip(dataset.classes, seen, strict=True) if not count]
    if unseen:
        yield f"{len(unseen)} of {len(dataset.classes)} classes have no instance: {first_names(unseen)}."


def _count(cases: Sequence[Any], noun: str, one: str = "is", many: str = "are", plural: str = "") -> str:
    """Returns a number, a noun and a verb: "1 mask is" or "3 masks are"."""
    return f"1 {noun} {one}" if len(cases) == 1 else f"{len(cases)} {plural or noun + 's'} {many}"


def _are(cases: Sequence[Any]) -> str:
    return "is" if len(cases) == 1 else "are"


def _have(cases: Sequence[Any]) -> str:
    return "has" if len(cases) == 1 else "have"
