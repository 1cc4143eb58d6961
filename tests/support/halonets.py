"""Small HaloNets, and published weights and parameter shapes."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch

from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.halonet import HaloNet
from attnzoo.backbones.halonet.model import Bottleneck
from support import parity

FACTS = json.loads((parity.ROOT / "halonet" / "family.json").read_text())


TIMM = {one["variant"]: one for one in FACTS["variants"]}


def our_name(timm_name: str) -> str:
    return "halonet_h1_timm" if timm_name == "halonet_h1" else timm_name


@functools.cache
def on_meta(name: str) -> HaloNet:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


def filled(shapes: dict[str, Any], gain: float = 1.0) -> dict[str, torch.Tensor]:
    return {name: parity.fill(name, value.shape, gain) for name, value in shapes.items()}


def tiny(**kwargs: Any) -> HaloNet:
    """Builds a HaloNet with two stages of convolutions and halo attention in small blocks."""
    defaults: dict[str, Any] = {
        "blocks": ("ch", "hc"),
        "embed_dims": (16, 24),
        "hidden_dims": (8, 16),
        "num_heads": (2, 4),
        "block_size": 4,
        "halo_size": 1,
        "num_classes": 5,
    }
    return HaloNet(**{**defaults, **kwargs})


def blocks_of(model: HaloNet) -> list[Any]:
    stages: list[Any] = list(model.stages)
    return [block for stage in stages for block in stage.blocks if isinstance(block, Bottleneck)]
