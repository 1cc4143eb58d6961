"""Randomness that depends on what is computed, never on which process or worker computes it, or when."""

from __future__ import annotations

import contextlib
import operator
import random
import zlib
from collections.abc import Iterator

import numpy as np
import torch


def derive_seed(*numbers: int, stream: str = "") -> int:
    """Mixes numbers, such as (seed, epoch, sample index), into one seed.

    Different sequences of numbers give independent seeds: (1,) and (1, 0) differ, and so do (0, 1) and (1, 0).

    Args:
        *numbers: non-negative integers below 2^64.
        stream: what the seed is for ("mixing"), so that two uses of the same numbers do not draw the same values.

    Returns:
        A seed of 63 bits, which Python's, NumPy's (`default_rng`) and torch's generators all take.

    Raises:
        ValueError: a number is negative or too large.
    """
    # SeedSequence pads short input with zeros and splits large numbers into words: without the count and with words of
    # unequal number, (1,) and (1, 0), or (2^32,) and (0, 1), would be one seed.
    words = [len(numbers), zlib.crc32(stream.encode())]
    for number in numbers:
        value = operator.index(number)
        if not 0 <= value < 2**64:
            raise ValueError(f"A seed is derived from integers of 0 to 2^64 - 1, given: {numbers}.")
        words += [value & 0xFFFFFFFF, value >> 32]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(state[0]) >> 1


@contextlib.contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seeds Python's, NumPy's and torch's CPU generator for the block, and gives them back as they were after it.

    Args:
        seed: a non-negative integer below 2^64.
    """
    python_state = random.getstate()
    # Transforms of timm and torchvision draw from the global generators, NumPy's legacy one among them.
    numpy_state = np.random.get_state()  # noqa: NPY002
    torch_state = torch.default_generator.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.default_generator.set_state(torch_state)
