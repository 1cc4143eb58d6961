"""Heads for semantic segmentation: from the feature maps of a backbone or neck to a map of logits."""

from .decode_head import DecodeHead
from .fcn_head import FCNHead
from .fpn_head import FPNHead
from .mlp_head import MLPHead
from .uper_head import UPerHead

__all__ = ["DecodeHead", "FCNHead", "FPNHead", "MLPHead", "UPerHead"]
