"""Attention in which each query of a 2-D map sees a neighborhood, a window, or a block of keys with a halo."""

from . import flops as _flops  # noqa: F401 - registers the formulas
from .api import halo_attention_2d, neighborhood_attention_2d, ranged_attention_2d, window_attention_2d

__all__ = ["halo_attention_2d", "neighborhood_attention_2d", "ranged_attention_2d", "window_attention_2d"]
