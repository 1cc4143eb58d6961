"""Ranged attention as fused Triton kernels (backend "triton"): scores and gathered keys are never stored."""

from __future__ import annotations

from .backward import backward
from .forward import forward
from .operands import supports

__all__ = ["backward", "forward", "supports"]
