"""Small NATs, and NATs with the weights of parity packs."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.nat import NAT
from support import parity

PACKS = ("nat_mini", "dinat_mini", "dinat_s_tiny", "dinat_isotropic_small")


def tiny(**kwargs: Any) -> NAT:
    """Builds a NAT with two stages. Its dilated attention pads small maps."""
    defaults: dict[str, Any] = {
        "depths": (2, 1),
        "embed_dims": (8, 16),
        "num_heads": (1, 2),
        "kernel_size": 3,
        "dilations": ((1, 3), (2,)),
        "num_classes": 5,
    }
    return NAT(**{**defaults, **kwargs})


def tiny_isotropic(**kwargs: Any) -> NAT:
    body: dict[str, Any] = {"stem": "patch", "stem_stride": 16, "downsample": "none", "dilations": None}
    return tiny(**{**body, "embed_dims": (8, 8), "num_heads": (2, 2), **kwargs})


def blocks_of(model: NAT) -> list[list[Any]]:
    stages: list[Any] = list(model.stages)
    return [list(stage.blocks) for stage in stages]


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("nat", variant)[0])


@functools.cache
def classifier(variant: str) -> nn.Module:
    model = model_entrypoint(variant)().eval()
    load_weights(model, official_weights(variant))
    return model
