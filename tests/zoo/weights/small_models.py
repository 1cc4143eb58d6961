"""A model small enough for every test, and its weights under the names of the official code."""

from __future__ import annotations

import re
from typing import Any

import torch

from attnzoo import create_model

SMALL = {"depths": (1, 1, 1, 1), "embed_dims": (8, 8, 16, 16), "num_heads": (1, 1, 1, 1), "kernel_size": 3}


def small(**kwargs: Any) -> Any:
    """Builds a NAT of a few thousand parameters; its head has 5 classes by default."""
    torch.manual_seed(kwargs.pop("seed", 0))
    return create_model("nat_mini", **{"num_classes": 5, **SMALL, **kwargs})


def official_names(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames a NAT's weights to the names of the official code."""
    renamed = {}
    for name, value in state_dict.items():
        name = re.sub(r"^stem\.convs\.", "patch_embed.proj.", name)
        name = re.sub(r"^stem\.", "patch_embed.", name)
        name = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"levels.{int(match[1]) - 1}.downsample.", name)
        name = re.sub(r"^stages\.", "levels.", name)
        renamed[re.sub(r"^head\.fc\.", "head.", name)] = value
    return renamed


def same_weights(first: torch.nn.Module, second: torch.nn.Module, but: str = "(?!)") -> bool:
    """Reports whether two models have equal weights, except for names that match a pattern."""
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one if not re.search(but, k))
