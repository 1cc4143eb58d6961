"""Operations on tensors: 2-D attention in which each query sees some of the keys. Needs torch alone."""

from .backends import plain_operators, use_backend
from .neighborhood import halo_attention_2d, neighborhood_attention_2d, window_attention_2d
from .routing import route_regions, routed_attention_2d

__all__ = [
    "halo_attention_2d",
    "neighborhood_attention_2d",
    "plain_operators",
    "route_regions",
    "routed_attention_2d",
    "use_backend",
    "window_attention_2d",
]
