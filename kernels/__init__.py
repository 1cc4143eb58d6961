"""Operations on tensors: 2-D attention in which each query sees some of the keys. Needs torch alone."""

from .backends import plain_operators, use_backend
from .neighborhood import neighborhood_attention_2d

__all__ = ["neighborhood_attention_2d", "plain_operators", "use_backend"]
