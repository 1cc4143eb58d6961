"""Attention on 2-D maps in which each query attends to a subset of the keys. Requires only torch."""

from .backends import exportable_operators, plain_operators, use_backend
from .neighborhood import halo_attention_2d, neighborhood_attention_2d, window_attention_2d
from .routing import route_regions, routed_attention_2d

__all__ = [
    "exportable_operators",
    "halo_attention_2d",
    "neighborhood_attention_2d",
    "plain_operators",
    "route_regions",
    "routed_attention_2d",
    "use_backend",
    "window_attention_2d",
]
