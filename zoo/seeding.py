"""Seeds that depend on what is computed, not on the process that computes it or on when it does."""

from __future__ import annotations

import contextlib
import operator
import random
import zlib
from collections.abc import Iterator

import numpy as np
import torch


def derive_seed(*numbers: int, stream: str = "") -> int:
    """Derives one seed from several numbers, such as (seed, epoch, sample index).

    Different sequences of numbers lead to independent seeds: (1,) and (1, 0) differ, and so do (0, 1) and (1, 0).

    Args:
        *numbers: Non-negative integers below 2^64.
        stream: Purpose of the seed ("mixing"), so that two uses of the same numbers do not draw the same values.

    Returns:
        A 63-bit seed, which the generators of Python, NumPy (`default_rng`) and torch all accept.

    Raises:
        ValueError: If a number is negative or too large.
    """
    # SeedSequence pads short input with zeros and splits large numbers into 32-bit words. Without the count, and with a
    # varying number of words per number, (1,) and (1, 0), or (2^32,) and (0, 1), would lead to the same seed.
    words = [len(numbers), zlib.crc32(stream.encode())]
    for number in numbers:
        value = operator.index(number)
        if not 0 <= value < 2**64:
            raise ValueError(f"Numbers for a seed must be in [0, 2^64 - 1], got {numbers}.")
        words += [value & 0xFFFFFFFF, value >> 32]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(state[0]) >> 1


@contextlib.contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, NumPy and torch (CPU) inside the block and restores their states after it.

    Args:
        seed: Non-negative integer below 2^64.
    """
    python_state = random.getstate()
    # Transforms of timm and torchvision draw from the global generators, including NumPy's legacy one.
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
