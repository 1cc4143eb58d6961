"""A small model of every family, with weights for which each layer matters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from attnzoo import create_model

_NAT = {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (2, 2)}
_AGENT = {"depths": (1, 1), "agent_blocks": (1, 0), "num_agents": (4, 4), "img_size": 32}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "agent_deit": ("agent_deit_tiny", {**_AGENT, "embed_dim": 16, "num_heads": 2}),
    "agent_swin": ("agent_swin_tiny", {**_AGENT, "embed_dim": 16, "num_heads": (2, 4), "window_size": 3}),
    "biformer": ("biformer_tiny", {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (2, 2), "topks": (2, -2),
                                   "num_regions": 2}),
    "davit": ("davit_tiny", {**_NAT, "window_size": 3}),
    "eca": ("eca_resnet18", {"depths": (1, 1), "planes": (16, 32), "k_size": 3}),
    "halonet": ("halonet26t", {"blocks": ("c", "h"), "embed_dims": (16, 32), "hidden_dims": (16, 16),
                               "num_heads": (2, 2), "block_size": 2, "halo_size": 1, "gate": "se"}),
    "metaformer": ("metaformer_micro", {"depths": (1, 1), "embed_dims": (32, 64)}),
    "nat": ("nat_mini", {**_NAT, "kernel_size": 3}),
    "van": ("van_b0", {"depths": (1, 1), "embed_dims": (16, 32), "mlp_ratios": (2, 2), "layer_scale": 1.0}),
}  # fmt: skip
"""Entry point and arguments by a short name; maps have strides 4 and 8, those of `eca` and `halonet` 2 as well."""

OTHER_BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "agent_cswin": ("agent_cswin_tiny", {**_AGENT, "depths": (2, 1), "embed_dim": 16, "num_heads": (2, 4),
                                         "stripe_sizes": (1, 1)}),
    "agent_pvt": ("agent_pvt_tiny", {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (2, 2),
                                     "mlp_ratios": (2, 2), "num_agents": (4, 4), "img_size": 32}),
    "biformer_stl": ("biformer_stl", {**_NAT, "topks": (1, 2), "num_regions": 2}),
    "eca_mobilenet": ("eca_mobilenet_v2", {"width_mult": 0.25}),
    "halonet_global": ("halo2botnet50ts_256", {"blocks": ("hg", "l"), "embed_dims": (16, 32), "hidden_dims": (16, 16),
                                               "num_heads": (2, 2), "block_size": 3, "halo_size": 1, "table_size": 4}),
    "nat_isotropic": ("nat_isotropic_small", {**_NAT, "embed_dims": (16, 16), "kernel_size": 2}),
    "nat_merging": ("dinat_s_tiny", {**_NAT, "kernel_size": 3, "dilations": ((2,), (1,))}),
    "vitrpb": ("vitrpb_small", {**_NAT, "embed_dims": (16, 16), "table_size": 3}),
}  # fmt: skip
"""Bodies of the families that differ from those of `MODELS`."""


def small_backbone(name: str, **kwargs: Any) -> Any:
    """Builds a small model with five classes in evaluation mode."""
    entry_point, arguments = (MODELS | OTHER_BODIES)[name]
    torch.manual_seed(0)
    model = create_model(entry_point, **{"num_classes": 5, **arguments, **kwargs}).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # the initial statistics, and zeros in a branch, would hide mistakes
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
            nn.init.normal_(module.running_mean, std=0.2)  # pyright: ignore[reportArgumentType]
    return model


def small_images(batch: int = 2, height: int = 37, width: int = 32) -> torch.Tensor:
    """Returns images whose height is a multiple of no stride."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
