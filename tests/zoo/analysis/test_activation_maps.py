"""Effective receptive fields, Grad-CAM and principal components of models whose results are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnzoo import create_model
from attnzoo.zoo.analysis.activation_maps import (
    feature_maps,
    grad_cam,
    principal_colors,
    receptive_field,
    strongest_channels,
)
from attnzoo.zoo.analysis.blocks import find_block
from support.attention_models import NAT, image


def test_the_receptive_field_of_a_first_block_is_local():
    model = create_model("metaformer_micro").eval()
    picture = image(64, 64)
    field = receptive_field(model, picture, find_block(model, 0, 0), 16, 8, (32, 32))
    assert field.shape == (64, 64)
    assert float(field.max()) == 1
    rows, cols = field.nonzero().T
    assert 26 <= int(rows.min()) <= int(rows.max()) <= 38  # row 16 of stride 2, its neighbors, and the stem's kernel
    assert 10 <= int(cols.min()) <= int(cols.max()) <= 22


class Marked(nn.Module):
    """Two classes, each the mean of one channel, so that the pixels of a class are known."""

    num_classes = 2
    map_layout = "NCHW"
    num_prefix_tokens = 0

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x).mean((2, 3))[:, :2]


def test_grad_cam_highlights_the_pixels_of_a_class():
    model = Marked()
    picture = torch.zeros(1, 3, 4, 5)
    picture[0, 0, 1, 2], picture[0, 1, 3, 4] = 4, 6
    for target, place in ((0, (1, 2)), (1, (3, 4)), (None, (3, 4))):
        cam, found, probability = grad_cam(model, picture, model.block, (4, 5), target)
        expected = torch.zeros(4, 5)
        expected[place] = 1
        torch.testing.assert_close(cam, expected)
        assert found == (1 if target is None else target)
        torch.testing.assert_close(probability, float(model(picture).softmax(-1)[0, found]))
    with pytest.raises(ValueError, match="There is no class 2; the model has 2"):
        grad_cam(model, picture, model.block, (4, 5), 2)


def test_principal_colors_follow_the_variance():
    torch.manual_seed(0)
    features = 0.01 * torch.randn(8, 6, 7)
    features[3, :, :3] += 10
    features[5] += 1000
    colors = principal_colors(features)
    assert colors.shape == (6, 7, 3)
    assert (colors[:, :3, 0] > 0.95).all()
    assert (colors[:, 3:, 0] < 0.05).all()
    assert strongest_channels(features, 1) == [3]
    assert principal_colors(torch.randn(2, 3, 3)).shape == (3, 3, 3)


def test_feature_maps_are_those_of_every_stage():
    model = create_model("nat_mini", num_classes=5, **NAT)
    maps = feature_maps(model, image(64, 64))
    assert {index: tuple(one.shape) for index, one in maps.items()} == {0: (16, 16, 16), 1: (32, 8, 8)}
    last = create_model("nat_mini", features_only=True, out_indices=(1,), **NAT)
    assert {index: tuple(one.shape) for index, one in feature_maps(last, image(64, 64)).items()} == {1: (32, 8, 8)}
