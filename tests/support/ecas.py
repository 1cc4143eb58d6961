"""ECA-Nets with the weights of parity packs, and the kernel sizes of their gates."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from support import parity

PACKS = ("eca_resnet18", "eca_mobilenet_v2", "ecaresnet26t")


_FACTS = json.loads((parity.ROOT / "ecanet" / "family.json").read_text())


OF_TIMM = {one["variant"]: one for one in _FACTS["timm_variants"]}


@functools.cache
def on_meta(name: str) -> Any:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


@functools.cache
def official_weights(name: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("ecanet", name)[0])


@functools.cache
def classifier(name: str) -> nn.Module:
    model = model_entrypoint(name)().eval()
    load_weights(model, official_weights(name))
    return model


def gates(model: nn.Module) -> list[list[int]]:
    """Returns the kernel sizes of the ECA gates of each stage's blocks."""
    return [[block.attn.conv.kernel_size[0] for block in stage.blocks] for stage in cast(Any, model).stages]
