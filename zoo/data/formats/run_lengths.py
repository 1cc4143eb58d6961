"""Checks COCO's compressed run lengths without decoding them to bitmaps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

MAX_DIGITS = 6
"""A run of fewer than 2^29 pixels has at most 6 digits of 5 bits, and so has the difference of two of them."""

_BATCH_BYTES = 2**18
"""Run lengths that are checked at once. The arrays take about a hundred times as much."""


def run_length_totals(counts: Sequence[bytes]) -> np.ndarray:
    """Returns how many pixels masks have according to their run lengths.

    COCO writes a number in characters of 6 bits from "0" on: five bits of the number, lowest first, and one that tells
    whether more follow. From the fourth number on, it is the difference to the run two before.

    Args:
        counts: Compressed run lengths.

    Returns:
        (masks,) int64; -1 for run lengths that are damaged: with other characters, an unfinished number, or a negative
        run.
    """
    batches = np.cumsum([len(piece) for piece in counts], dtype=np.int64) // _BATCH_BYTES
    starts = np.flatnonzero(np.diff(batches, prepend=-1)).tolist()
    totals = [_totals(counts[start:end]) for start, end in itertools.pairwise([*starts, len(counts)])]
    return np.concatenate([np.zeros(0, dtype=np.int64), *totals])


def _totals(counts: Sequence[bytes]) -> np.ndarray:
    lengths = np.array([len(piece) for piece in counts], dtype=np.int64)
    totals = np.zeros(len(counts), dtype=np.int64)
    if not lengths.sum():
        return totals
    characters = np.frombuffer(b"".join(counts), dtype=np.uint8).astype(np.int64) - 48
    mask_of = np.repeat(np.arange(len(counts)), lengths)
    damaged = np.zeros(len(counts), dtype=bool)
    damaged[mask_of[(characters < 0) | (characters > 63)]] = True

    last = np.cumsum(lengths)[lengths > 0] - 1
    ends = (characters & 32) == 0
    damaged[mask_of[last[~ends[last]]]] = True
    ends[last] = True  # so that an unfinished number does not run into the next mask
    ends = np.flatnonzero(ends)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    damaged[mask_of[starts[digits > MAX_DIGITS]]] = True
    places = np.minimum(np.arange(len(characters)) - np.repeat(starts, digits), MAX_DIGITS)
    values = np.add.reduceat((characters & 31) << (5 * places), starts)
    values -= ((characters[ends] & 16) != 0).astype(np.int64) << (5 * np.minimum(digits, MAX_DIGITS))

    owners = mask_of[starts]
    first = np.searchsorted(owners, np.arange(len(counts)))
    order = np.arange(len(owners)) - first[owners]
    # The first run stands alone; those at odd and those at even places are two chains of differences.
    chains = 3 * owners + np.where(order == 0, 0, 2 - order % 2)
    by_chain = np.argsort(chains, kind="stable")
    chains, sums = chains[by_chain], np.cumsum(values[by_chain])
    begins = np.flatnonzero(np.diff(chains, prepend=-1))
    before = np.where(begins > 0, sums[begins - 1], 0)
    runs = sums - np.repeat(before, np.diff(begins, append=len(chains)))
    np.add.at(totals, owners[by_chain], runs)
    damaged[owners[by_chain][runs < 0]] = True
    totals[damaged] = -1
    return totals
