"""Ranged attention as fused Triton kernels (backend "triton"): scores and gathered keys are never stored."""

from __future__ import annotations

from .backward import backward
from .forward import forward
from .operands import unsupported

__all__ = ["backward", "forward", "unsupported"]
