"""Small models of every kind of attention, and which of their blocks have attention weights for positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from attnzoo import create_model

NAT = {"depths": (1, 2), "embed_dims": (16, 32), "num_heads": (1, 2), "kernel_size": 3}

HALO = {"blocks": ("ch", "hh"), "embed_dims": (32, 64), "hidden_dims": (8, 16), "num_heads": (2, 2), "block_size": 4,
        "halo_size": 1}  # fmt: skip

AGENT = {"depths": (1, 1), "num_heads": (2, 4), "agent_blocks": (1, 0), "num_agents": (4, 4), "img_size": 64}

# Models, and which of their blocks have attention weights for positions.
MODELS: dict[str, tuple[str, dict[str, Any], list[tuple[int, int]]]] = {
    "neighborhood": ("nat_mini", NAT, [(0, 0), (1, 0), (1, 1)]),
    "dilated": ("dinat_mini", {**NAT, "dilations": ((2,), (1, 3))}, [(0, 0), (1, 0), (1, 1)]),
    "whole map with a table": ("vitrpb_small", {**NAT, "embed_dims": (32, 32), "table_size": 4}, [(0, 0), (1, 1)]),
    "halo": ("halonet26t", HALO, [(0, 1), (1, 0), (1, 1)]),
    "masked halo": ("halonet26t", {**HALO, "mask_halo": True}, [(0, 1), (1, 0)]),
    "window": ("davit_tiny", {"depths": (1,), "embed_dims": (16,), "num_heads": (2,), "window_size": 3}, [(0, 0)]),
    "agent and shifted windows": ("agent_swin_tiny", {**AGENT, "embed_dim": 16, "window_size": 3}, [(0, 0), (1, 0)]),
    "agent with a class token": ("agent_deit_tiny", {"embed_dim": 24, "depths": (1, 1, 1, 1), "img_size": 64,
                                 "agent_blocks": (1, 1, 1, 1), "num_agents": (4, 4, 4, 4)}, [(0, 0), (3, 0)]),
    "agent and stripes": ("agent_cswin_tiny", {**AGENT, "embed_dim": 16, "stripe_sizes": (1, 2)}, [(0, 0), (1, 0)]),
    "routed and whole map": ("biformer_tiny", {"depths": (1, 1, 1), "embed_dims": (16, 32, 32), "num_heads": (1, 2, 2),
                             "topks": (1, 2, -2), "num_regions": 3}, [(0, 0), (1, 0), (2, 0)]),
}  # fmt: skip


def build(kind: str, **kwargs: Any) -> Any:
    name, arguments, _ = MODELS[kind]
    torch.manual_seed(0)
    model = create_model(name, **{"num_classes": 5, **arguments, **kwargs}).eval()
    for parameter_name, parameter in model.named_parameters():
        # Attention of fresh models is nearly uniform, which would hide mistakes.
        if parameter_name.endswith(("qkv.weight", "q.weight", "kv.weight", "rpb", "embedding", "_bias")):
            nn.init.normal_(parameter, std=0.5)
    return model


def image(height: int = 45, width: int = 77) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
