"""Bi-level routing attention: queries of a 2-D map see the keys of the regions most relevant to their own region."""

from . import flops as _flops  # noqa: F401 - registers the formulas
from .api import route_regions, routed_attention_2d

__all__ = ["route_regions", "routed_attention_2d"]
