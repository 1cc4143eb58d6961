"""The RoI head of Cascade R-CNN."""

import torch
from torch import nn

from attnzoo.heads.roi import CascadeRoIHead
from support.small_rois import (
    SMALL_BOX,
    boxes,
    found,
    infos,
    maps,
    masks_of,
    objects,
    small_head,
)


def test_a_cascade_of_one_stage_is_a_standard_head():
    box = {**SMALL_BOX, "class_agnostic": True, "bbox_loss": "smooth_l1"}
    standard = small_head(bbox_head=box, assigner={"match_low_quality": False}).eval()
    cascade = small_head(CascadeRoIHead, bbox_head=SMALL_BOX, stages=({"iou": 0.5},)).eval()
    names = {name.replace("_head.", "_head.0.", 1): one for name, one in standard.state_dict().items()}
    cascade.load_state_dict(names, strict=True)
    features, proposals = maps(), [found(9, 0), found(12, 1)]
    for one, other in zip(
        standard.predict(features, proposals, infos()), cascade.predict(features, proposals, infos()), strict=True
    ):
        assert len(one)
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(masks_of(one), masks_of(other))
    targets = [objects(2, 3), objects(3, 4)]
    losses = standard.losses(features, proposals, targets, infos())
    staged = cascade.losses(features, proposals, targets, infos())
    assert staged == {f"s0.{name}": one for name, one in losses.items()}
    assert float(losses["loss_bbox"].detach()) > 0


def test_stages_refine_the_boxes_of_the_previous_stage():
    head = small_head(CascadeRoIHead).eval()
    for stage in head.bbox_head:
        nn.init.zeros_(stage.fc_reg.weight)
        # Every box moves to the right by a tenth of its width.
        stage.fc_reg.bias.data = torch.tensor([0.1 / stage.bbox_coder.stds[0], 0.0, 0.0, 0.0])
    given = torch.tensor([[10.0, 10, 30, 30], [50, 20, 70, 40]])
    first = head(maps(), [given, given[:0]], infos())[0]
    torch.testing.assert_close(first.boxes, torch.tensor([[16.0, 10, 36, 30], [56, 20, 76, 40]]))
    beyond = head(maps(), [given + torch.tensor([9.0, 0, 9, 0]), given[:0]], infos())[0].boxes
    assert beyond[1, 2] == 80, "boxes are cut to the image"
    assert first.scores.shape == (2, 4)
    torch.testing.assert_close(first.scores.sum(1), torch.ones(2))


def test_all_losses_of_a_stage_are_weighted():
    proposals, targets = [found(9, 0), found(12, 1)], [objects(2, 3), objects(3, 4)]
    plain, weighted = (
        small_head(CascadeRoIHead, stages=[{"loss_weight": weight} for weight in weights]).eval()
        for weights in ((1, 1, 1), (2, 0.5, 3))
    )
    expected = plain.losses(maps(), proposals, targets, infos())
    losses = weighted.losses(maps(), proposals, targets, infos())
    for stage, weight in enumerate((2, 0.5, 3)):
        for name in ("loss_cls", "loss_bbox", "loss_mask"):
            torch.testing.assert_close(losses[f"s{stage}.{name}"], weight * expected[f"s{stage}.{name}"])
            assert expected[f"s{stage}.{name}"] > 0
        assert losses[f"s{stage}.acc"] == expected[f"s{stage}.acc"]


def test_the_scores_of_a_cascade_are_of_the_mean_logits():
    head = small_head(CascadeRoIHead, num_classes=1).eval()
    for stage, logits in zip(head.bbox_head, ([6.0, 0.0], [0.0, 0.0], [0.0, 3.0]), strict=True):
        nn.init.zeros_(stage.fc_cls.weight)
        stage.fc_cls.bias.data = torch.tensor(logits)
    scores = head(maps(), [boxes(3), boxes(0)], infos())[0].scores
    torch.testing.assert_close(scores, torch.tensor([2.0, 1.0]).softmax(0).expand(3, 2))


def test_no_stage_takes_low_quality_matches():
    head = small_head(CascadeRoIHead)
    assert [assigner.match_low_quality for assigner in head.assigners] == [False] * len(head.bbox_head)
