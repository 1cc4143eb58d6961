"""Small VANs, and VAN-B0 with the weights of its parity pack."""

from __future__ import annotations

import functools
from typing import Any

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.van import VAN
from support import parity

PACK, GOLDEN = parity.load_pack("van", "van_b0")


def tiny(**kwargs: Any) -> VAN:
    """Builds a VAN with two stages."""
    defaults: dict[str, Any] = {"depths": (2, 1), "embed_dims": (8, 16), "mlp_ratios": (4, 2), "num_classes": 5}
    return VAN(**{**defaults, **kwargs})


def blocks_of(model: VAN) -> list[list[Any]]:
    stages: list[Any] = list(model.stages)
    return [list(stage.blocks) for stage in stages]


@functools.cache
def classifier() -> VAN:
    model = model_entrypoint("van_b0")().eval()
    load_weights(model, parity.filled_state_dict(PACK))
    return model
