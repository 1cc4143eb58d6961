"""The table of relative position biases, padded for the kernels."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...triton_common import launch
from ...triton_common.addressing import StridedTensor
from ...triton_common.constants import LOG2_E
from .plan import Grid, LaunchPlan


class BiasTable(NamedTuple):
    """A padded table as kernels receive it.

    Attributes:
        data: (heads, rows, columns) float32, times log2(e); a pointer inside a kernel.
        low: Row and column bias index of its first entry.
    """

    data: Any
    low: tuple[Any, Any]


class PaddedBias(NamedTuple):
    """A bias table padded with zeros, so that kernels look up the bias of any pair of a tile and a step without a mask.

    A look-up is then one load, from the sum of a query's and a key's offset.

    Attributes:
        table: The table; None for a call without biases.
        shape: Its rows and columns.
    """

    table: BiasTable | None
    shape: Grid


@triton.jit
def pad_kernel(bias, padded, shape, low, ROWS: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr):
    """Copies one head's table into a larger one, in float32 and times log2(e)."""
    head = tl.program_id(0)
    for first in range(0, ROWS * COLS, BLOCK):
        entry = first + tl.arange(0, BLOCK)
        row = entry // COLS + low[0]
        col = entry % COLS + low[1]
        known = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        offsets = head * bias.strides[0] + row * bias.strides[1] + col * bias.strides[2]
        values = tl.load(bias.data + offsets, mask=known, other=0.0).to(tl.float32) * LOG2_E
        tl.store(padded + head * (ROWS * COLS) + entry, values, mask=entry < ROWS * COLS)


def pad_bias(rpb: torch.Tensor | None, *plans: LaunchPlan) -> PaddedBias:
    """Pads a bias table (heads, rows, columns) for the launches with these plans."""
    if rpb is None:
        return PaddedBias(None, Grid(0, 0))
    low = Grid(min(plan.rows.bias_low for plan in plans), min(plan.cols.bias_low for plan in plans))
    rows = max(plan.rows.bias_high for plan in plans) - low.rows + 1
    cols = max(plan.cols.bias_high for plan in plans) - low.cols + 1
    # Multiples of 8: few distinct lengths, so few compilations.
    shape = Grid(-(-rows // 8) * 8, -(-cols // 8) * 8)
    padded = torch.empty((rpb.shape[0], *shape), dtype=torch.float32, device=rpb.device)
    launch.run(
        pad_kernel,
        (rpb.shape[0],),
        rpb.device,
        (StridedTensor(rpb, rpb.stride()), padded, tuple(rpb.shape[1:]), low),
        ROWS=shape.rows,
        COLS=shape.cols,
        BLOCK=1024,
        num_warps=4,
    )
    return PaddedBias(BiasTable(padded, low), shape)
