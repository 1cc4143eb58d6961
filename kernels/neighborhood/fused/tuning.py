"""Sizes of tiles and steps, warps and pipeline stages: a fixed table, so that results do not depend on timings."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .tiles import Grid


class Tuning(NamedTuple):
    """How a kernel is cut up.

    Attributes:
        tile: slots of the side that a program owns.
        step: slots of the other side that it takes at a time.
        warps: warps of a program whose tile is full.
        stages: steps whose loads are under way at a time.
    """

    tile: int
    step: int
    warps: int
    stages: int

    def warps_for(self, tile: Grid) -> int:
        """Warps of a program whose tile may be smaller than the table's."""
        return max(1, self.warps * tile.rows * tile.cols // self.tile)


def tuning(kernel: str, dtype: torch.dtype, dim: int) -> Tuning:
    """Looks up a kernel's sizes: "forward", "queries", "keys", "bias" or "additional"; `dim` is padded."""
    if dtype != torch.float32 and dim <= 32:
        return Tuning(32, 32, 2, 2)
    return Tuning(64, 32, 4, 2)


def precision(dtype: torch.dtype) -> str:
    """How matrix products are taken: float32 as three products of tf32, which keep 21 of the 24 bits."""
    return "tf32x3" if dtype == torch.float32 else "ieee"
