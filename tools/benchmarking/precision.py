"""Data types of the benchmarks, and how closely two implementations must agree in each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Relative error up to which two implementations agree."""


def default_dtype(device: torch.device) -> str:
    """Returns float32 for a CPU and bfloat16 for a GPU."""
    return "float32" if device.type == "cpu" else "bfloat16"


def agree(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Checks that the relative error of every tensor is within the tolerance."""
    return all(
        ((one.double() - other).norm() <= tolerance * other.norm()).item()
        for one, other in zip(actual, expected, strict=True)
    )
