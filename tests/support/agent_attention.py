"""Weights and heads for the definitions of agent attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def randomised(module: Any) -> Any:
    """Gives a module values of which each one counts, in float64."""
    torch.manual_seed(0)
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def split_heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, N, C) to (B, heads, N, C / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
