"""What anchor-based heads share: the order of predictions, and which anchors are trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.heads.anchor_head import AnchorHead, flatten_maps
from attnzoo.heads.assignment import PseudoSampler
from attnzoo.heads.structures import ImageInfo, Instances


def head(**changes: Any) -> AnchorHead:
    arguments: dict[str, Any] = {
        "anchor_generator": {"strides": (8,), "ratios": (1.0,), "scales": (1.0,)},
        "bbox_coder": None,
        "assigner": {"pos_iou_thr": 0.5, "neg_iou_thr": 0.4},
        "sampler": PseudoSampler(),
        "allowed_border": -1,
        "bbox_loss": "l1",
        "smooth_l1_beta": 1.0,
        "loss_weights": (1.0, 1.0),
    }
    return AnchorHead(**{**arguments, **changes})


def test_predictions_are_ordered_by_level_row_column_and_anchor():
    first = torch.arange(12.0).view(1, 4, 1, 3)  # two anchors of two numbers, one row of three columns
    second = 100 + torch.arange(4.0).view(1, 4, 1, 1)
    rows = flatten_maps([first, second], 2)[0].tolist()
    assert rows == [[0, 3], [6, 9], [1, 4], [7, 10], [2, 5], [8, 11], [100, 101], [102, 103]]


@pytest.mark.parametrize(("border", "trained"), [(-1, 6), (0, 2), (4, 6)])
def test_anchors_beyond_the_border_are_not_trained(border: float, trained: int):
    maps = [torch.zeros(1, 1, 2, 3)]  # anchors of 8 pixels centered on (0, 0), (8, 0), ... (16, 8)
    info = ImageInfo(image_size=(13, 21), original_size=(13, 21))
    target = Instances(torch.tensor([[4.0, 4.0, 12.0, 12.0]]), torch.tensor([0]))
    targets = head(allowed_border=border).anchor_targets(maps, [info], [target])
    assert len(targets.pos_inds) + len(targets.neg_inds) == trained
    assert targets.pos_boxes.tolist() == [[4.0, 4.0, 12.0, 12.0]]


def test_anchors_of_padding_are_not_trained():
    maps = [torch.zeros(1, 1, 2, 3)]
    info = ImageInfo(image_size=(8, 8), original_size=(8, 8), batch_size=(16, 24), padded_size=(8, 8))
    target = Instances(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0]))
    targets = head(assigner={"pos_iou_thr": 0.2, "neg_iou_thr": 0.1}).anchor_targets(maps, [info], [target])
    assert torch.cat((targets.pos_inds, targets.neg_inds)).tolist() == [0]


@pytest.mark.parametrize(
    ("padded", "trained"), [((16, 16), [0, 1, 3, 4]), ((8, 24), [0, 1, 2]), ((9, 17), [*range(6)])]
)
def test_a_single_row_or_column_of_padding_is_not_trained(padded: tuple[int, int], trained: list[int]):
    maps = [torch.zeros(1, 1, 2, 3)]
    info = ImageInfo(image_size=(8, 8), original_size=(8, 8), batch_size=(16, 24), padded_size=padded)
    target = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert head().anchor_targets(maps, [info], [target]).neg_inds.tolist() == trained


def test_anchors_inside_ignored_boxes_are_not_trained():
    maps, info = [torch.zeros(1, 1, 2, 3)], ImageInfo(image_size=(16, 24), original_size=(16, 24))
    ignored = torch.tensor([[4.0, -4.0, 12.0, 4.0]])  # the second anchor
    target = Instances(torch.tensor([[-4.0, -4.0, 4.0, 4.0]]), torch.tensor([0]), ignored_boxes=ignored)
    thresholds = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "ignore_iof_thr": 0.5}
    targets = head(assigner=thresholds).anchor_targets(maps, [info], [target])
    assert (targets.pos_inds.tolist(), targets.neg_inds.tolist()) == ([0], [2, 3, 4, 5])


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"box loss 'l2'. Did you mean 'l1'"):
        head(bbox_loss="l2")
    with pytest.raises(ValueError, match=r"loss_weights must be two numbers .* got \(1.0,\)"):
        head(loss_weights=(1.0,))
