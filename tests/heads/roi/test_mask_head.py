"""The mask head."""

import math
from typing import Any

import pytest
import torch

from attnzoo.heads.roi.mask_head import FCNMaskHead
from support.small_rois import (
    SMALL_MASK,
    found,
    infos,
    maps,
    objects,
    small_head,
)


def deviation(tensor):
    return tensor.detach().double().pow(2).mean().sqrt().item()


def test_a_mask_head_starts_as_openmmlabs():
    torch.manual_seed(0)
    head: Any = FCNMaskHead(20, 64, num_convs=2, conv_channels=128)
    for layer, fan_out in (
        (head.convs[0].conv, 128 * 9),
        (head.convs[1].conv, 128 * 9),
        (head.upsample, 128 * 4),
        (head.conv_logits, 20),
    ):
        assert deviation(layer.weight) == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        assert not layer.bias.any()


def test_masks_of_all_classes_can_be_one():
    head = small_head(mask_head={**SMALL_MASK, "class_agnostic": True}).train()
    assert head.mask_head.conv_logits.out_channels == 1
    losses = head.losses(maps(), [found(5), found(5)], [objects(2), objects(3)], infos())
    assert losses["loss_mask"] > 0
    detections = head.eval().predict(maps(), [found(5), found(5)], infos())
    assert all(one.masks is not None and len(one.masks) == len(one) for one in detections)
