"""Data types of the benchmarks, and how closely two implementations must agree in each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attnzoo.tools.benchmarking.names import DTYPE_NAMES

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Relative error up to which two implementations agree."""


def default_device() -> torch.device:
    """Returns the GPU, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> str:
    """Returns float32 for a CPU and bfloat16 for a GPU."""
    return "float32" if device.type == "cpu" else "bfloat16"


def agree(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Checks that the relative error of every tensor is within the tolerance."""
    return all(
        ((one.double() - other).norm() <= tolerance * other.norm()).item()
        for one, other in zip(actual, expected, strict=True)
    )
