"""Looking at a segmentation set's files before a training does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...seeding import derive_seed
from ..common.decoding import UNREADABLE, BrokenImageError
from .label_maps import IGNORED

if TYPE_CHECKING:
    from .dataset import SegmentationDataset

_MOST_NAMED = 5


def check_segmentation(dataset: SegmentationDataset, most: int, seed: int) -> list[str]:
    """Reads label images, all or a random sample of them, and compares their sizes with the images'.

    Args:
        dataset: the set.
        most: how many samples are looked at.
        seed: of the choice where there are more.

    Returns:
        What is odd, but no error: what the set itself has found, files that cannot be read, label images where no
        pixel counts, classes that do not occur.

    Raises:
        ValueError: label images are none, have values out of range, or have another size than their image. The message
            names up to five of them and the remedy.
    """
    chosen = choose(len(dataset), most, seed)
    looked_at = f"of all {len(dataset)}" if len(chosen) == len(dataset) else f"of {len(chosen)} out of {len(dataset)}"
    errors: list[str] = []
    broken: list[str] = []
    empty: list[str] = []
    pixels = np.zeros(256, np.int64)
    for index in chosen:
        pair = dataset.pairs[index]
        try:
            width, height = _image_size(pair.image)
            labels = dataset.read_labels(index)
        except BrokenImageError as error:
            broken.append(str(error))
            continue
        except ValueError as error:
            errors.append(str(error))
            continue
        if labels is None:
            continue
        if labels.shape != (height, width):
            errors.append(dataset.different_sizes(index, (height, width), labels.shape))
        counts = np.bincount(labels.ravel(), minlength=256)
        pixels += counts
        if counts[IGNORED] == labels.size:
            empty.append(str(pair.labels))
    if errors:
        raise ValueError(f"{dataset} has errors in {len(errors)} {looked_at} samples:\n" + "\n".join(_first(errors)))
    findings = list(dataset.findings)
    if broken:
        findings.append(f"{len(broken)} {looked_at} samples cannot be read:\n" + "\n".join(_first(broken)))
    if empty:
        findings.append(f"In {len(empty)} {looked_at} label images no pixel counts: {', '.join(_first(empty))}.")
    unseen = [name for name, count in zip(dataset.classes, pixels, strict=False) if not count]
    if unseen and pixels.any():
        findings.append(
            f"{len(unseen)} of {len(dataset.classes)} classes do not occur in the labels {looked_at} samples: "
            f"{', '.join(_first(unseen))}."
        )
    return [f"{dataset}: {finding}" for finding in findings]


def choose(count: int, most: int, seed: int) -> list[int]:
    """Chooses `most` of `count` numbers at random, in order; all where there are no more."""
    if count <= most:
        return list(range(count))
    generator = np.random.default_rng(derive_seed(seed, stream="checks"))
    return sorted(int(one) for one in generator.choice(count, most, replace=False))


def _image_size(path: str) -> tuple[int, int]:
    """Width and height, from the beginning of a file."""
    try:
        with Image.open(path) as image:
            return image.size
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise BrokenImageError.of(path, f"{type(error).__name__}: {error}") from error


def _first(lines: Sequence[str]) -> list[str]:
    return [*lines[:_MOST_NAMED], f"and {len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else list(lines)
