"""BiFormers with the weights of parity packs, and their numbers of regions."""

from __future__ import annotations

import functools

import torch

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.biformer import BiFormer
from support import parity
from support.biformers import blocks_of


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("biformer", variant)[0])


@functools.cache
def classifier() -> BiFormer:
    model = model_entrypoint("biformer_tiny")().eval()
    load_weights(model, official_weights("biformer_tiny"))
    return model


def regions_of(model: BiFormer) -> list[tuple[int, int]]:
    found = [getattr(blocks[0].attn, "num_regions", None) for blocks in blocks_of(model)]
    return [one for one in found if one is not None]
