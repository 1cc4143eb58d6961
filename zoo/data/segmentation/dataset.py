"""What data sets of semantic segmentation share: an image and a label for each of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from ...registry import TRANSFORMS
from ...seeding import derive_seed, isolated_randomness
from ..common.decoding import UNREADABLE, BrokenImageError, decode_rgb
from ..common.replacement import read_or_replace
from ..common.samplers import SampleKey
from .checks import check_segmentation
from .label_maps import LabelTable, read_label_image, voc_palette

SegmentationTransform = Callable[[np.ndarray, "np.ndarray | None"], dict[str, Any]]
"""From an RGB image (h, w, 3) and a label map (h, w), both uint8, to what a sample holds of them."""


class Pair(NamedTuple):
    """The files of one sample.

    Attributes:
        image: path of the image.
        labels: path of the label image; None where there are no labels, as in a test set.
    """

    image: str
    labels: str | None


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Images with a label for every pixel. Subclasses find the files and know the classes.

    A sample depends on (seed, epoch, index, repeat) alone. Where an image or its labels cannot be read, another sample
    takes the place in training, and evaluation raises, as in `ImageClassificationDataset`.

    Args:
        name: where the set lies, for messages.
        pairs: the samples' files, in order.
        classes: names, by label.
        transform: a config of TRANSFORMS, or a callable from (image, label map or None), uint8 arrays, to a dict.
        palette: [red, green, blue] by label; None for Pascal VOC's colours.
        reduce_zero_label: see `LabelTable`.
        label_values: see `LabelTable`.
        seed: of augmentation and of replacing broken images.
        num_classes: how many classes there must be; None takes any number.
        replace_broken: True as in training, False as in evaluation; None as the transform's `training` says.
        max_retries: how many broken samples in a row make a training sample fail.

    Attributes:
        pairs: as given.
        classes: names, by label.
        metainfo: `classes` and `palette`.
        findings: what is odd about the files, but no error: for `check`.

    Raises:
        ValueError: there are no samples, no transform or another number of classes than `num_classes`.
    """

    def __init__(
        self,
        name: str,
        pairs: Sequence[Pair],
        classes: Sequence[str],
        transform: dict[str, Any] | SegmentationTransform | None,
        palette: Sequence[Sequence[int]] | None = None,
        reduce_zero_label: bool = False,
        label_values: Mapping[int, int] | None = None,
        seed: int = 0,
        num_classes: int | None = None,
        replace_broken: bool | None = None,
        max_retries: int = 10,
    ) -> None:
        self.name = name
        if transform is None:
            raise ValueError("A data set needs a transform, such as dict(type='SegmentationTest', scale=(2048, 512)).")
        if not pairs:
            raise ValueError(f"{self} is empty.")
        self.pairs = list(pairs)
        self.classes = tuple(classes)
        if num_classes is not None and num_classes != len(self.classes):
            raise ValueError(
                f"{self} has {len(self.classes)} classes, not num_classes={num_classes}: correct the number or the "
                "class names."
            )
        colours = voc_palette(len(self.classes)) if palette is None else [list(colour) for colour in palette]
        self.metainfo = {"classes": self.classes, "palette": colours}
        self.findings: list[str] = []
        self.transform: SegmentationTransform = (
            TRANSFORMS.build(transform) if isinstance(transform, dict) else transform
        )
        self.seed = seed
        self.replace_broken = getattr(self.transform, "training", False) if replace_broken is None else replace_broken
        self.max_retries = max_retries
        self._table = LabelTable(len(self.classes), reduce_zero_label, label_values)

    def __str__(self) -> str:
        return f"The data set {self.name}"

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Reads and transforms one image and its labels.

        Args:
            key: of a sampler; a plain index counts as epoch 0.

        Returns:
            `image` (3, h, w) uint8 and `info`, or `views`, as the transform gives them; `label_map` (h, w) uint8, as
            large as the image in training and as the file in evaluation, None without labels; `index`, `epoch` and
            `repeat` as int; `path`; `broken`, the paths of broken files that this sample replaces.

        Raises:
            BrokenImageError: in evaluation, a file is broken; in training, `max_retries` more were, too.
            IndexError: there is no such sample.
            ValueError: the label image is none, has values out of range or another size than the image.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        if not 0 <= key.index < len(self):
            raise IndexError(f"{self} has no sample {key.index}: its {len(self)} are numbered from 0.")
        seeds = (self.seed, key.epoch, key.index, key.repeat)
        (image, labels), index, broken = read_or_replace(
            self._read, key.index, len(self), seeds, self.replace_broken, self.max_retries
        )
        with isolated_randomness(derive_seed(*seeds, stream="augmentation")):
            sample = self.transform(image, labels)
        return {
            **sample,
            "index": key.index,
            "epoch": key.epoch,
            "repeat": key.repeat,
            "path": self.pairs[index].image,
            "broken": broken,
        }

    def check(self, most: int = 300, seed: int = 0) -> list[str]:
        """Looks at the files before a training does.

        Args:
            most: label images that are read; from larger sets a random sample is taken.
            seed: of that sample.

        Returns:
            What is odd, but no error: classes that occur nowhere, files that cannot be read and would be replaced.

        Raises:
            ValueError: labels are out of range, or sizes differ; the message names the files and the remedy.
        """
        return check_segmentation(self, most, seed)

    def read_labels(self, index: int) -> np.ndarray | None:
        """Reads a sample's labels.

        Args:
            index: of the sample.

        Returns:
            (h, w) uint8, 255 for pixels that do not count; None where the set has no labels.

        Raises:
            BrokenImageError: the file cannot be read.
            ValueError: it is no label image, or has values out of range.
        """
        path = self.pairs[index].labels
        return None if path is None else self._table(read_label_image(path), path)

    def different_sizes(self, index: int, image: Sequence[int], labels: Sequence[int]) -> str:
        """Says that a sample's image and labels differ in size; sizes are (height, width)."""
        pair = self.pairs[index]
        return (
            f"The image {pair.image} is {image[1]}x{image[0]} pixels, its label image {pair.labels} is "
            f"{labels[1]}x{labels[0]}: both must have one size. (An EXIF orientation is not applied.)"
        )

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        path = self.pairs[index].image
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed below; only opening it belongs into this try)
        except UNREADABLE as error:
            raise BrokenImageError.of(path, f"{type(error).__name__}: {error}") from error
        with file:
            image = np.asarray(decode_rgb(file, path))
        labels = self.read_labels(index)
        if labels is not None and labels.shape != image.shape[:2]:
            raise ValueError(self.different_sizes(index, image.shape[:2], labels.shape))
        return image, labels
