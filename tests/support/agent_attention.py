"""Random weights and a split into heads, for reference implementations of agent attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def randomised(module: Any) -> Any:
    """Converts a module to float64 and sets its parameters to values large enough to affect the output."""
    torch.manual_seed(0)
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def split_heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Splits (B, N, C) into (B, heads, N, C / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
