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
"""Pooling of a map (B, C, H, W) to a vector (B, C), by name; the empty name returns the map itself."""


class PooledHead(nn.Module):
    """Classification head: pooling, an optional norm, dropout, and a linear layer `fc`.

    Args:
        in_features: Number of channels of the map.
        num_classes: Number of classes; 0 for no classifier.
        global_pool: "avg", "max", or "" to return the map itself, which requires `num_classes=0`.
        drop_rate: Dropout rate before the linear layer.
        norm_layer: Builds the norm that follows the pooling from the number of channels; None for no norm.

    Attributes:
        poolings: Pooling functions by name.
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
        """Replaces the classifier by a new one, with weights from a truncated normal with std 0.02 and zero bias.

        Args:
            num_classes: Number of classes; 0 for no classifier.
            global_pool: Name of the pooling; None to keep it.

        Raises:
            ValueError: There is no such pooling, `num_classes` is negative, or a classifier would get an unpooled map.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        check_positive("num_classes", num_classes, least=0)
        check_choice("global_pool", global_pool, self.poolings)
        if num_classes and not global_pool:
            raise ValueError(f"global_pool='' returns maps and requires num_classes=0, got num_classes={num_classes}.")
        old = getattr(self, "fc", None)
        place = {"device": old.weight.device, "dtype": old.weight.dtype} if isinstance(old, nn.Linear) else {}
        self.global_pool = global_pool
        self.fc = nn.Linear(self.in_features, num_classes, **place) if num_classes else nn.Identity()
        init_linear(self.fc)

    def forward(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Maps (B, C, H, W) to (B, num_classes), or with `pre_logits` or no classes to the classifier's input."""
        x = self.poolings[self.global_pool](x)
        # Norms expect channels last, as they are in a vector but not in an unpooled map.
        x = self.norm(x) if self.global_pool else self.norm(x.movedim(1, -1)).movedim(-1, 1)
        x = self.drop(x)
        return x if pre_logits else self.fc(x)

    def extra_repr(self) -> str:
        """Returns the module's arguments for its printed form."""
        return f"global_pool={self.global_pool!r}"
