"""Launching kernels, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton

from .addressing import load_vectors


def run(kernel: Any, grid: tuple[int, ...], device: torch.device, arguments: tuple[Any, ...], **options: Any) -> None:
    """Launches a grid of programs of a kernel on a device. Does nothing if the grid is empty."""
    if 0 in grid:
        return
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*arguments, **options)


def is_interpreted() -> bool:
    """Whether TRITON_INTERPRET was set when the kernels were decorated, so that they run (slowly) on a CPU."""
    return not isinstance(load_vectors, triton.JITFunction)
