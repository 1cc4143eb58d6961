"""Semantic FPN's head."""

from __future__ import annotations

import torch
from torch import nn

from attnzoo.heads.segmentation import FPNHead
from attnzoo.heads.segmentation.decode_head import resize
from support.segmentors import WIDTHS, maps, trained


def test_levels_are_upsampled_step_by_step_and_summed():
    head = trained("fpn")
    features = maps()
    expected = head.scale_heads[0](features[0])
    for level in range(1, 4):
        x = features[level]
        for conv in (layer for layer in head.scale_heads[level] if hasattr(layer, "conv")):
            x = conv(x)
            x = resize(x, (2 * x.shape[2], 2 * x.shape[3]))
        expected = expected + resize(x, expected.shape[2:])
    torch.testing.assert_close(head.pixel_features(features), expected)


def test_a_level_has_one_convolution_per_doubling():
    head = FPNHead([*WIDTHS], 8, num_classes=5)
    counts = [sum(isinstance(module, nn.Conv2d) for module in level.modules()) for level in head.scale_heads]
    assert counts == [1, 1, 2, 3]
