"""Blocks of backbones, and the size and layout of their maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo import create_model
from attnzoo.zoo.analysis.blocks import as_map, find_block, input_size, output_size
from support.attention_models import NAT, build, image


def test_blocks_are_found_by_index():
    model: Any = create_model("nat_mini", features_only=True, **NAT)
    assert find_block(model, 1, -1) is model.body.stages[1].blocks[1]
    assert find_block(model.body, -2, 0) is model.body.stages[0].blocks[0]
    with pytest.raises(ValueError, match="There is no stage 2; NAT has 2, 0 to 1"):
        find_block(model, 2, 0)
    with pytest.raises(ValueError, match="There is no block 1 in stage 0, which has 1"):
        find_block(model, 0, 1)
    with pytest.raises(ValueError, match="Linear has no attribute `stages`"):
        find_block(torch.nn.Linear(1, 1), 0, 0)


@pytest.mark.parametrize(("kind", "size"), [("neighborhood", (6, 10)), ("agent with a class token", (4, 5))])
def test_maps_are_viewed_as_nchw_in_every_layout(kind: str, size: tuple[int, int]):
    model = build(kind, **({"img_size": (64, 80)} if "token" in kind else {}))
    picture = image(64, 80) if "token" in kind else image()
    block = find_block(model, -1, 0)
    recorded = []
    handle = block.register_forward_hook(lambda _, args, out: recorded.append((args, out)))
    assert output_size(model, picture, block) == size
    handle.remove()
    ((args, out),) = recorded
    assert input_size(model, args) == size
    viewed = as_map(model, out, size)
    assert viewed.shape == (1, viewed.shape[1], *size)
    tokens = out[0, model.num_prefix_tokens :] if out.ndim == 3 else out[0].flatten(0, 1)
    torch.testing.assert_close(viewed[0].flatten(1).T, tokens)
