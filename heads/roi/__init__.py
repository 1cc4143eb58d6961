"""Heads on regions of interest: features of boxes, and classes, better boxes and masks from them."""

from .cascade import CascadeRoIHead
from .standard import StandardRoIHead

__all__ = ["CascadeRoIHead", "StandardRoIHead"]
