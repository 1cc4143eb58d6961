"""Zero padding at the bottom and right of feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...kernels.tracing import fx_leaf

__all__ = ["pad_bottom_right", "pad_to_multiple"]


@fx_leaf
def pad_bottom_right(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pads maps (B, H, W, C) with zeros at the bottom and right to at least (B, height, width, C)."""
    rows, cols = max(0, height - x.shape[1]), max(0, width - x.shape[2])
    return F.pad(x, (0, 0, 0, cols, 0, rows)) if rows or cols else x


@fx_leaf
def pad_to_multiple(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Pads maps (B, C, H, W) with zeros at the bottom and right until `factor` divides the height and the width."""
    rows, cols = -x.shape[2] % factor, -x.shape[3] % factor
    return F.pad(x, (0, cols, 0, rows)) if rows or cols else x
