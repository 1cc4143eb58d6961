"""Names and options that the benchmarks' command lines accept; importing them imports no other library.

The modules that implement them check that they implement all of them.
"""

from __future__ import annotations

from typing import NamedTuple

DTYPE_NAMES = ("float32", "float16", "bfloat16", "float64")
"""Data types, by torch's names."""

BASELINE_NAMES = ("timm", "plain", "flex")
"""Baselines of complete models."""


class Option(NamedTuple):
    """An integer argument of an operation, which is also a command-line option."""

    default: int | None
    help: str


OPERATION_OPTIONS: dict[str, dict[str, Option]] = {
    "neighborhood": {"kernel_size": Option(7, "kernel size of neighborhood attention")},
    "routing": {
        "num_regions": Option(7, "regions of routed attention along each axis"),
        "topk": Option(None, "regions that each region attends to (default: BiFormer's; 4 for other sizes)"),
    },
    "window": {"window_size": Option(7, "window size of window attention")},
    "halo": {
        "block_size": Option(8, "block size of halo attention"),
        "halo_size": Option(2, "halo size of halo attention"),
    },
}
"""For each operation its own arguments, by name."""
