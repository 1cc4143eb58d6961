"""Recognizes the format of a user's data set, and makes the splits that are missing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..data.formats import AnnotatedImages, Content, LabeledImages, read_data
from .samples import sample_images

MIN_HELD_OUT = 10
"""With fewer images than this, nothing is held out: neither part would say anything."""


@dataclass
class OwnData:
    """A user's data set, with a split for training and one for validation.

    Attributes:
        format: Name of its format.
        content: What is annotated; its splits include "train" and "val".
        side: Median of the images' shorter sides in pixels.
        made_split: Whether the validation split was made here.
        remarks: What the user should know, one sentence each.
    """

    format: str
    content: Content
    side: int
    made_split: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images by split."""
        return {split: self.content.count(split) for split in self.content.splits}

    def summary(self) -> list[str]:
        """Describes the data set, one sentence each."""
        content = self.content
        classes = f"{len(content.classes)} classes ({_listed(content.classes)})"
        sizes = ", ".join(f"{count:,} {split}" for split, count in self.sizes.items())
        return [f"data: {self.format}, {content.kind}, {classes}; images: {sizes}", *self.remarks]


def recognize(
    data: str | os.PathLike[str], format: str | None = None, val_fraction: float = 0.2, seed: int = 0
) -> OwnData:
    """Recognizes a data set by the files that are there, reads it, and holds out a validation split if it has none.

    Args:
        data: Path of the folder or file.
        format: Name of a format in `FORMATS`, if the recognition is not wanted.
        val_fraction: Share of the images that are held out if there is no validation split.
        seed: Seed of the choice.

    Raises:
        ValueError: There is nothing, its format is not known, or its content is wrong.
    """
    root = Path(data).expanduser()
    name, content = read_data(root, format)
    if "train" not in content.splits:
        raise ValueError(f"The data set has the splits {', '.join(content.splits)}, but none for training.")
    sample = sample_images(content.image_paths("train"), seed)
    own = OwnData(name, content, sample.side)
    if sample.rotated:
        own.remarks.append(
            f"{sample.rotated} of {sample.count} images that were looked at have an EXIF orientation, which training "
            "and prediction do not apply, as usual; if photos are on their side, rotate the files"
        )
    if own.content.left_out:
        counts = ", ".join(
            f"{count} {suffix or 'without a suffix'}" for suffix, count in own.content.left_out.most_common()
        )
        own.remarks.append(f"left out, because they are not images that can be read: {counts}")
    if isinstance(own.content, LabeledImages) and len(own.content.classes) < 2:
        raise ValueError(
            f"All images in {root} have the class {', '.join(own.content.classes)}: a classifier needs at least two "
            "classes. Add a folder with images of something else."
        )
    if isinstance(content, AnnotatedImages) and content.has_masks:
        _choose_masks(own, content)
    _complete_splits(own, val_fraction, seed)
    return own


def _choose_masks(own: OwnData, content: AnnotatedImages) -> None:
    """Decides between masks and boxes alone if only some objects have masks."""
    masks, objects = content.count_masks()
    if 2 * masks < objects:
        content.has_masks = False
        own.remarks.append(f"only {masks} of {objects} objects have a mask: boxes alone are trained")
    elif masks < objects:
        own.remarks.append(f"{objects - masks} of {objects} objects have no mask: they are ignored in training")


def _complete_splits(own: OwnData, val_fraction: float, seed: int) -> None:
    """Makes sure that there are splits for training and validation."""
    content = own.content
    if "val" in content.splits:
        return
    if "test" in content.splits:
        content.copy_split("test", "val")
        own.remarks.append("there is no validation split: the test split is used for validation")
        return
    own.made_split = True
    count = content.count("train")
    if count < MIN_HELD_OUT:
        content.copy_split("train", "val")
        own.remarks.append(
            f"with {count} images nothing is held out: validation is on the training images, and tells nothing about "
            "new ones"
        )
        return
    content.hold_out(val_fraction, seed)
    own.remarks.append(
        f"there is no validation split: {content.count('val')} of {count} images are held out (seed {seed})"
    )


def _listed(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
