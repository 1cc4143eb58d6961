"""Replacing broken images in training: always by the same others, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...seeding import derive_seed
from .decoding import BrokenImageError

Sample = TypeVar("Sample")


def read_or_replace(
    read: Callable[[int], Sample], index: int, count: int, seeds: tuple[int, ...], replace: bool, max_retries: int
) -> tuple[Sample, int, list[str]]:
    """Reads a sample, or another one where it is broken.

    Args:
        read: reads the sample of an index; raises BrokenImageError.
        index: of the sample that was asked for.
        count: number of samples.
        seeds: what the replacement is drawn from: (seed, epoch, index, repeat).
        replace: True as in training; False lets the error through, because a figure over other images would be wrong.
        max_retries: how many others are tried.

    Returns:
        What was read, the index that it has, and the paths of the broken images met before.

    Raises:
        BrokenImageError: the image is broken and `replace` is False, or `max_retries` others were broken, too.
    """
    broken: list[str] = []
    current = index
    while True:
        try:
            return read(current), current, broken
        except BrokenImageError as error:
            if not replace:
                raise
            broken.append(error.path)
            if len(broken) > max_retries:
                reason = f"{error.reason}; nor can {max_retries} others tried before it: {', '.join(broken[:-1])}"
                raise BrokenImageError.of(error.path, reason) from error
            current = derive_seed(*seeds, len(broken), stream="replacement") % count
