"""Splits of a data set: their usual names, and a validation split that is held out, stratified and seeded."""

from __future__ import annotations

import collections
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

Sample = TypeVar("Sample")

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""The usual names of a split's folder or file, in lowercase, by split."""


def split_of(name: str) -> str | None:
    """Returns the split that a folder or file of this name holds; None if the name is not that of a split."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def hold_out(
    samples: Sequence[Sample], groups: Sequence[int], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Splits samples into training and validation, with the same share of each group in both.

    Args:
        samples: Samples, in any order.
        groups: What each sample is stratified by, such as its label.
        fraction: Share of the validation split, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Samples for training and for validation, in the given order. A group with one sample is for training; any other
        has at least one sample in both.

    Raises:
        ValueError: `fraction` is out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The share of the validation split must be between 0 and 1, got {fraction!r}.")
    members: dict[int, list[int]] = collections.defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    held_out: set[int] = set()
    for group in sorted(members):
        indices = members[group]
        count = min(len(indices) - 1, max(1, round(fraction * len(indices))))
        held_out.update(random.Random(f"{seed}/{group}").sample(indices, count))
    train = [sample for index, sample in enumerate(samples) if index not in held_out]
    return train, [samples[index] for index in sorted(held_out)]
