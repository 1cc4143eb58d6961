"""RoI heads: classes, refined boxes and masks from region features."""

from .cascade import CascadeRoIHead
from .standard import StandardRoIHead

__all__ = ["CascadeRoIHead", "StandardRoIHead"]
