"""Looking at a detection set before a training does: the annotation file in itself, and against the images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..common.checks import choose, first_names
from ..common.decoding import UNREADABLE
from ..formats.coco import CocoAnnotations


class AnnotatedFiles(Protocol):
    """What is checked: images and their annotation file, as `CocoDetection` has them.

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
    """Compares an annotation file with itself and with the images on the disk.

    Args:
        dataset: the set.
        most: of how many images, chosen at random, the size is compared. That the files are there is checked for all.
        seed: of that choice.

    Returns:
        What is odd, but no error, a sentence each: boxes that were clipped, instances that were left out or count as
        ignored, images and classes without objects, a file given twice, images that cannot be read.

    Raises:
        ValueError: image files are missing or of another size than the annotation file says; ids are given twice;
            annotations are of unknown images or categories; masks are not as large as their image; in training, there
            is nothing to learn. The message has a line for each, with the number, up to five ids, and the remedy.
    """
    sizes, unreadable = _wrong_sizes(dataset, choose(len(dataset), most, seed))
    errors = [*_file_errors(dataset), *sizes, *_annotation_errors(dataset)]
    if errors:
        raise ValueError(f"{dataset} has errors:\n" + "\n".join(f"- {error}" for error in errors))
    return [f"{dataset}: {finding}" for finding in (*_findings(dataset), *unreadable)]


def _file_errors(dataset: AnnotatedFiles) -> Iterator[str]:
    """Images that are not on the disk. Folders are listed once: asking for 100 000 files is slow over a network."""
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
            f"of {len(dataset)} image files {_count(missing)} missing: {first_names(missing)}. Correct root and split "
            f"(images are looked for in {dataset.folder}), or take the images out of the annotation file."
        )


def _wrong_sizes(dataset: AnnotatedFiles, chosen: Sequence[int]) -> tuple[list[str], list[str]]:
    """Gives an error for images of another size than the annotation file says, and a finding for unreadable ones."""
    wrong, unreadable = [], []
    for index in chosen:
        path = dataset.path(index)
        height, width = dataset.size(index)
        try:
            with Image.open(path) as image:
                found = (image.height, image.width)
        except FileNotFoundError:
            continue
        except UNREADABLE as error:
            unreadable.append(f"{path} ({type(error).__name__})")
            continue
        if found != (height, width):
            wrong.append(f"{path} (image {dataset.image_ids[index]}: {found[0]}x{found[1]}, not {height}x{width})")
    looked_at = f"of {len(chosen)} images looked at"
    errors = [
        f"{looked_at} {_count(wrong)} of another height x width than the annotation file says: "
        f"{first_names(wrong)}. Were the images resized, or turned by their EXIF orientation? Annotate these very "
        "files."
    ]
    findings = [f"{looked_at} {_count(unreadable)} unreadable: {first_names(unreadable)}."]
    return errors if wrong else [], findings if unreadable else []


def _annotation_errors(dataset: AnnotatedFiles) -> Iterator[str]:
    """Contradictions inside of the annotation file."""
    problems, annotations = dataset.annotations.problems, dataset.annotations
    if problems.duplicate_images:
        yield (
            f"{_count(problems.duplicate_images, 'image id')} given to several images: "
            f"{first_names(problems.duplicate_images)}. Number the images anew, and the annotations' image_id with "
            "them."
        )
    if problems.duplicate_annotations:
        yield (
            f"{_count(problems.duplicate_annotations, 'annotation id')} given to several annotations: "
            f"{first_names(problems.duplicate_annotations)}. Evaluation would lose all but one: number them anew."
        )
    if problems.unknown_images:
        yield (
            f"{_count(problems.unknown_images, 'annotation')} of images that are not in the file: "
            f"{first_names(problems.unknown_images)}. Remove them, or add the images."
        )
    if problems.unknown_categories:
        yield (
            f"{_count(problems.unknown_categories, 'annotation')} of categories that are not in the file, which has "
            f"{first_names([*annotations.all_categories])}: {first_names(problems.unknown_categories)}. Add the "
            "categories, or correct category_id."
        )
    if problems.mask_sizes:
        yield (
            f"{_count(problems.mask_sizes, 'mask')} of another height x width than the image: "
            f"annotation {first_names(problems.mask_sizes)}. Correct the run lengths' size, or the image's height and "
            "width."
        )
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
            "To train on boxes alone set with_masks=False."
        )


def _findings(dataset: AnnotatedFiles) -> Iterator[str]:
    """What is odd in the annotation file, but no error."""
    problems, annotations = dataset.annotations.problems, dataset.annotations
    if problems.outside:
        yield (
            f"{_count(problems.outside, 'box')} partly or wholly outside of the image and clipped: annotation "
            f"{first_names(problems.outside)}."
        )
    if problems.degenerate:
        yield (
            f"{_count(problems.degenerate, 'instance')} left out, with a box thinner than a pixel or outside of the "
            f"image, or without area: annotation {first_names(problems.degenerate)}."
        )
    if problems.maskless and dataset.training:
        yield (
            f"{_count(problems.maskless, 'instance')} without a mask, and so neither object nor background in "
            f"training: annotation {first_names(problems.maskless)}. To train on boxes alone set with_masks=False."
        )
    if problems.duplicate_files:
        yield (
            f"{_count(problems.duplicate_files, 'file')} given as several images: "
            f"{first_names(problems.duplicate_files)}."
        )
    left_out = len(annotations) - len(dataset)
    if left_out:
        yield (
            f"of {len(annotations)} images {_count(left_out)} left out: without an annotation of the classes, or "
            "with a shorter side than min_size."
        )
    seen = np.bincount(annotations.labels[~annotations.is_crowd], minlength=len(dataset.classes))
    unseen = [name for name, count in zip(dataset.classes, seen, strict=True) if not count]
    if unseen:
        yield f"{len(unseen)} of {len(dataset.classes)} classes have no instance: {first_names(unseen)}."


def _count(things: Sequence[Any] | int, name: str = "") -> str:
    """Gives "1 box is" or "3 boxes are"; without a name "1 is" or "3 are"."""
    count = things if isinstance(things, int) else len(things)
    named = f" {name}" if name else ""
    plural = "es" if name.endswith("x") else "s"
    return f"1{named} is" if count == 1 else f"{count}{named}{plural if name else ''} are"
