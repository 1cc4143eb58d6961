"""What detectors and segmentors share: the neck's channels, and the inputs that a mode needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.zoo.registry import MODELS

SMALL = {"type": "nat_mini", "depths": (1, 1), "embed_dims": (8, 16), "num_heads": (1, 2), "kernel_size": 3}
HEAD = {"type": "FCNHead", "num_classes": 3, "channels": 4, "num_convs": 1, "concat_input": False}


def segmentor(neck: dict[str, Any] | None) -> Any:
    backbone = {**SMALL, "features_only": True}
    return MODELS.build({"type": "Segmentor", "backbone": backbone, "neck": neck, "decode_head": HEAD}).eval()


def test_the_neck_takes_the_backbones_channels():
    task = segmentor({"type": "FPN", "out_channels": 4, "num_outs": 2})
    assert task.neck.in_channels == (8, 16)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        features = task.features(image)
        assert [tuple(x.shape) for x in features] == [(1, 4, 8, 8), (1, 4, 4, 4)]
        part = task.export_parts()["neck"].run(task, image)
    assert all(torch.equal(one, other) for one, other in zip(part, features, strict=True))


def test_without_a_neck_the_heads_see_the_backbones_maps():
    task = segmentor(None)
    assert "neck" not in task.export_parts()
    with torch.no_grad():
        assert [x.shape[1] for x in task.features(torch.randn(1, 3, 32, 32))] == [8, 16]


def test_missing_inputs_raise():
    task = segmentor(None)
    image = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"mode.*'lose'.*Did you mean 'loss'"):
        task(image=image, mode="lose")
    with pytest.raises(ValueError, match="no `image`"):
        task(mode="tensor")
    with pytest.raises(ValueError, match="no `info`"):
        task(image=image, mode="predict")
    with pytest.raises(ValueError, match="must have mode 'predict', got mode='tensor'"):
        task(views=[{}], mode="tensor")
