"""Small DaViTs, and published weights."""

from __future__ import annotations

import functools
import json
from typing import Any, TypeVar

import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.davit import DaViT
from support import parity

FAMILY = {variant["variant"]: variant for variant in json.loads((parity.ROOT / "davit" / "family.json").read_text())}


Model = TypeVar("Model", bound=nn.Module)


FLORENCE2 = {"down_kernel_size": 3, "channel_attn_v2": True}


def tiny(**kwargs: Any) -> DaViT:
    """Builds a DaViT with two stages and small windows."""
    defaults: dict[str, Any] = {
        "depths": (1, 2),
        "embed_dims": (8, 16),
        "num_heads": (2, 4),
        "window_size": 3,
        "num_classes": 5,
    }
    return DaViT(**{**defaults, **kwargs})


def scattered(model: Model) -> Model:
    """Sets parameters to random values large enough to affect the output; returns the model in eval mode."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def blocks_of(model: DaViT) -> list[list[Any]]:
    stages: list[Any] = list(model.stages)
    return [list(stage.blocks) for stage in stages]


@functools.cache
def on_meta(variant: str) -> DaViT:
    with torch.device("meta"):
        return model_entrypoint(variant)().eval()


@functools.cache
def pack_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("davit", variant)[0])


@functools.cache
def classifier(variant: str) -> DaViT:
    model = model_entrypoint("davit_tiny")().eval()
    load_weights(model, pack_weights(variant))
    return model
