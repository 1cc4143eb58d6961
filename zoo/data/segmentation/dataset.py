"""What data sets of semantic segmentation share: an image and a label for each of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ..common.checks import choose, first_lines, first_names
from ..common.dataset import ImageDataset
from ..common.decoding import BrokenImageError, read_size
from .label_maps import LabelTable, read_label_image, voc_palette

SegmentationTransform = Callable[[np.ndarray, "np.ndarray | None"], dict[str, Any]]
"""Maps an RGB image (h, w, 3) and a label map (h, w), both uint8, to the entries of a sample."""


class Pair(NamedTuple):
    """The files of one sample.

    Attributes:
        image: Path of the image.
        labels: Path of the label image; None if there are no labels, as in a test set.
    """

    image: str
    labels: str | None


class SegmentationDataset(ImageDataset):
    """Images with a label for every pixel. Subclasses find the files and know the classes.

    `load` returns the image (h, w, 3) and its label map (h, w), or None without labels, both uint8, and the transform
    takes both. A sample has what the transform returns: `image` (3, h, w) uint8 and `info`, or `views`; and
    `label_map` (h, w) uint8, as large as the image in training and as the file in evaluation, or None without labels.

    Args:
        name: Where the data set is stored, for messages.
        pairs: Files of the samples, in order.
        classes: Names by label.
        transform: Config of a registered transform, or a callable from (image, label map or None), uint8 arrays, to a
            dict.
        palette: [red, green, blue] by label; None uses Pascal VOC's colors.
        reduce_zero_label: See `LabelTable`.
        label_values: See `LabelTable`.
        **options: See `ImageDataset`.

    Attributes:
        pairs: As given.
        metainfo: `classes` and `palette`.
        findings: Sentences for `check`: what is unusual about the files but not an error.

    Raises:
        ValueError: If there are no samples; or see `ImageDataset`.
    """

    kind: ClassVar[str] = "segmentation"
    transform_example: ClassVar[str] = "dict(type='SegmentationTest', scale=(2048, 512))"

    def __init__(
        self,
        name: str,
        pairs: Sequence[Pair],
        classes: Sequence[str],
        transform: dict[str, Any] | SegmentationTransform | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        reduce_zero_label: bool = False,
        label_values: Mapping[int, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, classes, transform, **options)
        if not pairs:
            raise ValueError(f"{self} is empty.")
        self.pairs = list(pairs)
        self.metainfo["palette"] = (
            voc_palette(len(self.classes)) if palette is None else [list(color) for color in palette]
        )
        self.findings: list[str] = []
        try:
            self._table = LabelTable(len(self.classes), reduce_zero_label, label_values)
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from error

    def __len__(self) -> int:
        return len(self.pairs)

    def path(self, index: int) -> str:
        """Returns the path of an image."""
        return self.pairs[index].image

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Reads an image and its labels.

        Raises:
            BrokenImageError: If a file cannot be read.
            ValueError: If the label image is not one, has values out of range, or another size than the image.
        """
        image = np.asarray(self.read_image(index))
        labels = self.read_labels(index)
        if labels is not None and labels.shape != image.shape[:2]:
            raise ValueError(self.different_sizes(index, image.shape[:2], labels.shape))
        return image, labels

    def transform_sample(self, loaded: tuple[np.ndarray, np.ndarray | None], index: int) -> dict[str, Any]:
        """Returns the result of the transform."""
        return self.transform(*loaded)

    def read_labels(self, index: int) -> np.ndarray | None:
        """Reads a sample's labels.

        Returns:
            (h, w) uint8, 255 for pixels to ignore; None if the data set has no labels.

        Raises:
            BrokenImageError: If the file cannot be read.
            ValueError: If it is not a label image, or has values out of range.
        """
        path = self.pairs[index].labels
        return None if path is None else self._table(read_label_image(path), path)

    def check(self, most: int = 300, seed: int = 0) -> list[str]:
        """Reads label images and compares their sizes with the images'.

        Args:
            most: Number of label images that are read; from larger sets a random sample is taken.
            seed: Seed of that sample.

        Returns:
            Sentences about what is unusual but not an error: findings of the constructor, files that cannot be read
            and would be replaced, label images whose pixels are all ignored, classes that do not occur.

        Raises:
            ValueError: If files are not label images, have values out of range, or another size than their image. The
                message names up to five of them and the remedy.
        """
        return check_segmentation(self, most, seed)

    def different_sizes(self, index: int, image: Sequence[int], labels: Sequence[int]) -> str:
        """Returns the message for an image and labels of different size; sizes are (height, width)."""
        pair = self.pairs[index]
        return (
            f"The image {pair.image} is {image[1]}x{image[0]} pixels, its label image {pair.labels} is "
            f"{labels[1]}x{labels[0]}: both must have the same size. (EXIF orientation is not applied.)"
        )


def check_segmentation(dataset: SegmentationDataset, most: int, seed: int) -> list[str]:
    """Checks a data set's files; see `SegmentationDataset.check`."""
    chosen = choose(len(dataset), most, seed)
    scope = f"of all {len(dataset)}" if len(chosen) == len(dataset) else f"of {len(chosen)} out of {len(dataset)}"
    errors: list[str] = []
    broken: list[str] = []
    empty: list[str] = []
    pixels = np.zeros(256, np.int64)
    for index in chosen:
        pair = dataset.pairs[index]
        try:
            size = read_size(pair.image)
            labels = dataset.read_labels(index)
        except BrokenImageError as error:
            broken.append(str(error))
            continue
        except ValueError as error:
            errors.append(str(error))
            continue
        if labels is None:
            continue
        if labels.shape != size:
            errors.append(dataset.different_sizes(index, size, labels.shape))
        counts = np.bincount(labels.ravel(), minlength=256)
        pixels += counts
        if counts[IGNORE_INDEX] == labels.size:
            empty.append(str(pair.labels))
    if errors:
        raise ValueError(f"{dataset} has errors in {len(errors)} {scope} samples:\n{first_lines(errors)}")
    findings = list(dataset.findings)
    if broken:
        findings.append(f"{len(broken)} {scope} samples cannot be read:\n{first_lines(broken)}")
    if empty:
        findings.append(f"{len(empty)} {scope} label images have only ignored pixels: {first_names(empty)}.")
    unseen = [name for name, count in zip(dataset.classes, pixels, strict=False) if not count]
    if unseen and pixels.any():
        findings.append(
            f"{len(unseen)} of {len(dataset.classes)} classes do not occur in the labels {scope} samples: "
            f"{first_names(unseen)}."
        )
    return [f"{dataset}: {finding}" for finding in findings]
