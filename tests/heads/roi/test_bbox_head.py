"""The box head."""

import math
from typing import Any

import pytest
import torch

from attnzoo.heads.roi.bbox_head import BBoxHead
from support.small_rois import (
    SMALL_BOX,
)


def deviation(tensor):
    return tensor.detach().double().pow(2).mean().sqrt().item()


def test_a_box_head_starts_as_openmmlabs():
    torch.manual_seed(0)
    head: Any = BBoxHead(20, 64, num_shared_convs=1, norm="BN", fc_channels=256)
    assert deviation(head.fc_cls.weight) == pytest.approx(0.01, rel=0.05)
    assert deviation(head.fc_reg.weight) == pytest.approx(0.001, rel=0.05)
    for layer in head.shared_fcs:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert layer.weight.abs().max() <= bound
        assert deviation(layer.weight) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    conv = head.shared_convs[0]
    assert deviation(conv.conv.weight) == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.05)
    assert conv.conv.bias is None
    assert conv.bn.weight.eq(1).all()
    for name, parameter in head.named_parameters():
        assert not name.endswith("bias") or not parameter.any(), name


def test_refinement_uses_the_true_class_in_training_and_the_best_class_otherwise():
    head = BBoxHead(3, 8, **SMALL_BOX)
    regions = torch.tensor([[10.0, 10, 30, 30]]).repeat(3, 1)
    # Class k moves a region by k + 1 pixels to the right; background has the largest logit.
    offsets = torch.zeros(3, 3, 4)
    offsets[:, :, 0] = torch.tensor([1.0, 2.0, 3.0]) / 20 / 0.1
    logits = torch.tensor([[0.0, 2.0, 1.0, 9.0], [3.0, 2.0, 1.0, 9.0], [0.0, 1.0, 2.0, 9.0]])
    moved = head.refine(regions, logits, offsets.flatten(1), (50, 50))
    torch.testing.assert_close(moved[:, 0], torch.tensor([12.0, 11.0, 13.0]))
    labels = torch.tensor([2, 1, 3])
    moved = head.refine(regions, logits, offsets.flatten(1), (50, 32), labels)
    torch.testing.assert_close(moved[:, 0], torch.tensor([13.0, 12.0, 13.0]))
    assert moved[:, 2].tolist() == [32, 32, 32], "boxes are cut to the image"


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_the_smooth_l1_loss_of_the_boxes_by_hand(beta: float):
    head = BBoxHead(3, 8, **{**SMALL_BOX, "bbox_loss": "smooth_l1", "smooth_l1_beta": beta, "class_agnostic": True})
    regions = torch.tensor([[10.0, 10, 30, 30]]).repeat(4, 1)
    offsets = torch.zeros(4, 4)
    offsets[0, 0] = 0.5  # the target is 0, because the object is the region itself
    losses = head.losses(torch.zeros(4, 4), offsets, regions, torch.tensor([1, 3, 3, 3]), regions)
    expected = 0.5 - beta / 2 if beta < 0.5 else 0.5 * 0.5**2 / beta
    assert float(losses["loss_bbox"]) == pytest.approx(expected / 4)
