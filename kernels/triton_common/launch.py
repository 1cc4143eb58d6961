"""How kernels are started: for operands on a GPU, or on a CPU in Triton's interpreter."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton

from ..neighborhood.fused import tile_sizes as tuning
from ..neighborhood.fused.plan import Grid

LOG2_E = 1.4426950408889634
"""Turns exponents of e into exponents of 2, for which GPUs have an instruction."""


def run(kernel: Any, programs: tuple[int, ...], arguments: tuple, **options: Any) -> None:
    """Starts a grid of programs of a kernel on the device of its first argument."""
    if 0 in programs:
        return
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[programs](*arguments, **options)


def is_interpreted(kernel: Any) -> bool:
    """Whether TRITON_INTERPRET was set when the kernel was decorated, so that it runs on a CPU, slowly."""
    return not isinstance(kernel, triton.JITFunction)


def is_wide(*tensors: torch.Tensor | None) -> bool:
    """Whether an image of one of the (B, H, W, heads, dim) tensors reaches past 2^31 elements."""
    return any(
        sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True)) >= 2**31
        for tensor in tensors
        if tensor is not None
    )


def block_dim(dim: int) -> int:
    """Length of a vector in a kernel's blocks: the next power of two, at least the 16 that a matrix product takes."""
    return max(16, triton.next_power_of_2(dim))


def dims(query: torch.Tensor, value: torch.Tensor) -> dict[str, int]:
    """What every kernel is compiled for that follows from the operands' vectors, by parameter name."""
    return {
        "DIM": query.shape[4],
        "DIM_V": value.shape[4],
        "BLOCK_DIM": block_dim(query.shape[4]),
        "BLOCK_DIM_V": block_dim(value.shape[4]),
    }


def sizes(kernel: str, query: torch.Tensor, value: torch.Tensor, has_terms: bool = False) -> tuning.Tuning:
    """How to cut up a kernel for these operands."""
    return tuning.tuning(kernel, query.dtype, max(block_dim(query.shape[4]), block_dim(value.shape[4])), has_terms)


def tuned(sizes: tuning.Tuning, tile: Grid) -> dict[str, Any]:
    """What a launch takes from the table of sizes, by parameter name; `tile` may be smaller than the table's."""
    warps = max(1, sizes.warps * tile.rows * tile.cols // sizes.tile)
    return {"PRECISION": sizes.precision, "num_warps": warps, "num_stages": sizes.stages}


def strides(tensor: torch.Tensor | None) -> tuple[int, ...] | None:
    """A tensor's strides, None for an operand that is not there."""
    return None if tensor is None else tensor.stride()
