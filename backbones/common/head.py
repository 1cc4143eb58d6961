"""The classification head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import nn

from .checks import check_choice, check_positive, check_rates
from .init import init_linear

__all__ = ["POOLINGS", "PooledHead"]

POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "avg": lambda x: x.mean(dim=(2, 3)),
    "max": lambda x: x.amax(dim=(2, 3)),
}
"""How a head makes a vector (B, C) of a map (B, C, H, W); the empty name keeps the map."""


class PooledHead(nn.Module):
    """Pools a feature map and classifies it: pooling, a norm if the design has one here, dropout, a linear layer `fc`.

    Args:
        in_features: channels of the map.
        num_classes: 0 leaves the layer out.
        global_pool: "avg", "max", or "" to return the map itself, which needs `num_classes` 0.
        drop_rate: of the dropout before the linear layer.
        norm_layer: makes the norm of what was pooled from its channels; None for none.

    Attributes:
        poolings: how a vector is made of what the head is given, by name.
    """

    poolings: ClassVar[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = POOLINGS

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        check_rates(drop_rate=drop_rate)
        self.in_features = in_features
        self.norm = nn.Identity() if norm_layer is None else norm_layer(in_features)
        self.drop = nn.Dropout(drop_rate)
        self.global_pool = global_pool
        self.reset(num_classes)

    def reset(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier by a new one, initialised with a truncated normal of std 0.02 and zero biases.

        Args:
            num_classes: 0 removes the classifier.
            global_pool: None leaves the pooling as it is.

        Raises:
            ValueError: there is no such pooling, `num_classes` is negative, or a classifier would see an unpooled map.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        check_positive("num_classes", num_classes, least=0)
        check_choice("global_pool", global_pool, self.poolings)
        if num_classes and not global_pool:
            raise ValueError(f"global_pool='' returns maps, which {num_classes} classes cannot be told from.")
        old = getattr(self, "fc", None)
        place = {"device": old.weight.device, "dtype": old.weight.dtype} if isinstance(old, nn.Linear) else {}
        self.global_pool = global_pool
        self.fc = nn.Linear(self.in_features, num_classes, **place) if num_classes else nn.Identity()
        init_linear(self.fc)

    def forward(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, num_classes), or with `pre_logits` (or without classes) to what the layer sees."""
        x = self.poolings[self.global_pool](x)
        # Channels are last in a vector, but not in a map that is returned as it is.
        x = self.norm(x) if x.ndim == 2 else self.norm(x.movedim(1, -1)).movedim(-1, 1)
        x = self.drop(x)
        return x if pre_logits else self.fc(x)

    def extra_repr(self) -> str:
        """Says what printing the module shows."""
        return f"global_pool={self.global_pool!r}"
