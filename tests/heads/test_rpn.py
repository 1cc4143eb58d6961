"""The region proposal network, and what it shares with RetinaNet: targets of anchors and the loss of boxes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.heads.anchor_head import flatten_maps
from attnzoo.heads.boxes import DeltaXYWHBBoxCoder, box_iou, clip_boxes
from attnzoo.heads.rpn import RPNHead
from attnzoo.heads.structures import Detections, ImageInfo, Instances
from support import head_packs

PACK, TENSORS = head_packs.load("rpn")
INFO = ImageInfo((64, 64), (64, 64), batch_size=(64, 64), padded_size=(64, 64))

ANCHORS: Any = {"strides": (8, 16), "scales": (2,)}


def official(**changes: Any) -> Any:
    arguments = {**head_packs.rpn_arguments(PACK, without_chance=True), **changes}
    return head_packs.load_weights(RPNHead(**arguments), PACK, "rpn_head.")


def tiny(**changes: Any) -> RPNHead:
    torch.manual_seed(0)
    head = RPNHead(**{"in_channels": 8, "feat_channels": 8, "anchor_generator": ANCHORS, **changes})
    for parameter in head.parameters():  # scores and boxes that differ
        nn.init.normal_(parameter, std=0.3)
    return head


def maps(batch: int = 2, size: int = 8, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 8, size >> i, size >> i, generator=generator) for i in range(2)]


def objects(*boxes: list[float]) -> Instances:
    return Instances(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), torch.zeros(len(boxes), dtype=torch.int64))


class TestOfficial:
    @pytest.mark.parametrize("name", head_packs.case_names("rpn", "rpn"))
    def test_maps_and_proposals(self, name: str):
        case, head = head_packs.case_of(PACK, name), official()
        assert sum(one.numel() for one in head.parameters()) == PACK["params"]
        with torch.no_grad():
            found = head(head_packs.features(case))
        for kind, levels in zip(("cls", "reg"), found, strict=True):
            for level, one in enumerate(levels):
                head_packs.check(one, case, TENSORS, f"rpn_{kind}_{level}")
        proposals = head.propose(found, head_packs.infos(case), training=False)
        assert [len(one) for one in proposals] == case["found"]["proposals"]
        for image, one in enumerate(proposals):
            head_packs.check_detections(one, case, TENSORS, image, head_packs.proposal_names())
            assert not one.labels.any()

    def test_losses(self):
        case, head = head_packs.case_of(PACK, "loss"), official()
        found = head(head_packs.features(case))
        infos, targets = head_packs.infos(case), head_packs.targets(case, TENSORS)
        head_packs.check_losses(head.losses(found, infos, targets), case)
        trained = head.anchor_targets(found[0], infos, targets)
        assert sum(trained.num_pos) == case["counts"]["positive_anchors"]
        assert sum(trained.num_pos) + sum(trained.num_neg) == case["counts"]["avg_factor"]

    def test_padding_beyond_an_image_is_not_trained(self):
        """The second image is padded by itself to 128 rows, in the batch to 160."""
        case, head = head_packs.case_of(PACK, "loss"), official()
        found = head(head_packs.features(case))
        infos, targets = head_packs.infos(case), head_packs.targets(case, TENSORS)
        right = head.losses(found, infos, targets)["loss_rpn_cls"].item()
        without = [dataclasses.replace(info, padded_size=None) for info in infos]
        assert head.losses(found, without, targets)["loss_rpn_cls"].item() != pytest.approx(right, rel=1e-3)


def test_initialisation():
    torch.manual_seed(0)
    head = RPNHead()
    for conv, count in ((head.rpn_conv, 256), (head.rpn_cls, 3), (head.rpn_reg, 12)):
        assert conv.weight.shape[0] == count
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert abs(conv.weight.mean().item()) < 1e-3
        assert conv.bias is not None
        assert not conv.bias.any()


def test_defaults_are_the_official_config():
    head, config = RPNHead(), official()
    assert head.test_proposals == config.test_proposals
    assert head.train_proposals == {**config.test_proposals, "nms_pre": 2000}
    assert vars(head.assigner) == vars(config.assigner)
    assert vars(head.anchor_generator) == vars(config.anchor_generator)
    assert vars(head.sampler) == {**vars(config.sampler), "num": PACK["config"]["train_cfg"]["rpn"]["sampler"]["num"]}
    assert head.allowed_border == config.allowed_border


def propose_slowly(
    head: RPNHead, found: Any, info: ImageInfo, image: int, nms_pre: int, most: int, iou: float, side: float
) -> Detections:
    """The definition, a box at a time; suppression on each level by itself."""
    coder = DeltaXYWHBBoxCoder()
    kept: list[tuple[float, list[float]]] = []
    for logits, offsets, anchors in zip(*found, head.anchors_for(found[0]), strict=True):
        scores = logits[image].permute(1, 2, 0).flatten().sigmoid()
        boxes = clip_boxes(coder.decode(anchors, offsets[image].permute(1, 2, 0).reshape(-1, 4)), info.image_size)
        own: list[tuple[float, list[float]]] = []
        for row in scores.argsort(descending=True)[:nms_pre].tolist():
            x1, y1, x2, y2 = boxes[row].tolist()
            rivals = torch.tensor([box for _, box in own]).view(-1, 4)
            if x2 - x1 > side and y2 - y1 > side and not (box_iou(boxes[row, None], rivals) > iou).any():
                own.append((scores[row].item(), boxes[row].tolist()))
        kept += own
    kept = sorted(kept, reverse=True)[:most]
    boxes = torch.tensor([box for _, box in kept]).view(-1, 4)
    return Detections(boxes, torch.tensor([score for score, _ in kept]), torch.zeros(len(kept), dtype=torch.int64))


class TestProposals:
    @pytest.mark.parametrize("training", [False, True])
    def test_definition(self, training: bool):
        settings = {"nms_pre": 90, "max_per_img": 25, "nms_iou": 0.6, "min_bbox_size": 6}
        other = {"nms_pre": 40, "max_per_img": 12, "nms_iou": 0.4, "min_bbox_size": 0}
        train, test = (settings, other) if training else (other, settings)
        head = tiny(train_proposals=train, test_proposals=test)  # the coarser level has 48 anchors
        infos = [INFO, dataclasses.replace(INFO, image_size=(40, 52))]
        with torch.no_grad():
            found = head(maps())
        for image, one in enumerate(head.propose(found, infos, training)):
            expected = propose_slowly(head, found, infos[image], image, 90, 25, 0.6, 6)
            torch.testing.assert_close(one.boxes, expected.boxes)
            torch.testing.assert_close(one.scores, expected.scores)
            assert 5 < len(one) <= 25

    def test_none_is_large_enough(self):
        head = tiny(test_proposals={"min_bbox_size": 1000})
        for one in head.propose(head(maps()), [INFO, INFO], training=False):
            assert one.boxes.shape == (0, 4)
            assert one.scores.shape == one.labels.shape == (0,)

    def test_boxes_without_area_only_where_asked_for(self):
        """A sliver of an image: everything beyond it is cut to no width."""
        info = dataclasses.replace(INFO, image_size=(64, 1))
        for side, expected in ((0, False), (-1, True)):
            head = tiny(test_proposals={"min_bbox_size": side})
            (found,) = head.propose(head(maps(1)), [info], training=False)
            width = found.boxes[:, 2] - found.boxes[:, 0]
            assert bool((width == 0).any()) is expected

    def test_nothing_flows_back(self):
        head = tiny()
        assert not head.propose(head(maps()), [INFO, INFO], training=True)[0].boxes.requires_grad


class TestTargets:
    def test_border(self):
        target = objects([4, 4, 20, 20])
        for border in (0, 5):
            head = tiny(allowed_border=border, sampler={"num": 100000})
            found = head(maps(1))
            info = dataclasses.replace(INFO, image_size=(48, 56), padded_size=(48, 56))
            trained = head.anchor_targets(found[0], [info], [target])
            anchors = torch.cat(head.anchors_for(found[0]))
            inside = [
                row
                for row, (x1, y1, x2, y2) in enumerate(anchors.tolist())
                if x1 >= -border and y1 >= -border and x2 < 56 + border and y2 < 48 + border
            ]
            assigned = head.assigner.assign(anchors[inside], target.boxes, target.labels).gt_inds
            assert sorted([*trained.pos_inds.tolist(), *trained.neg_inds.tolist()]) == [
                row for row, one in zip(inside, assigned.tolist(), strict=True) if one >= 0
            ]
            assert 0 < len(inside) < len(anchors)

    def test_a_wide_border_does_not_reach_into_padding(self):
        info = dataclasses.replace(INFO, image_size=(30, 60), padded_size=(32, 64))
        rows = []
        for border in (-1, 1000):
            head = tiny(allowed_border=border, sampler={"num": 100000})
            trained = head.anchor_targets(head(maps(1))[0], [info], [objects([4, 4, 20, 20])])
            rows.append(torch.cat((trained.pos_inds, trained.neg_inds)))
        assert torch.equal(*rows)
        assert rows[0].max() < 8 * 8 * 3 + 2 * 4 * 3  # the coarser level's first two of four rows

    def test_no_anchor_lies_inside(self):
        head = tiny(allowed_border=0)
        found = head(maps(1))
        terms = head.losses(found, [dataclasses.replace(INFO, image_size=(4, 4))], [objects([1, 1, 3, 3])])
        assert {name: one.item() for name, one in terms.items()} == {"loss_rpn_cls": 0, "loss_rpn_bbox": 0}

    def test_rows_of_the_second_image_follow_those_of_the_first(self):
        head = tiny(sampler={"num": 100000})
        found = head(maps(2))
        boxes = objects([10, 10, 40, 42])
        both = head.anchor_targets(found[0], [INFO, INFO], [objects(), boxes])
        anchors = sum(len(one) for one in head.anchors_for(found[0]))
        single = head.anchor_targets([one[1:] for one in found[0]], [INFO], [boxes])
        assert torch.equal(both.pos_inds, single.pos_inds + anchors)
        assert both.num_pos == [0, *single.num_pos]
        assert single.num_pos[0] > 0

    def test_a_wrong_number_of_images_raises(self):
        head = tiny()
        found = head(maps(2))
        with pytest.raises(ValueError, match=r"feature maps of 2 images, 1 infos and . targets"):
            head.losses(found, [INFO], [objects()])
        with pytest.raises(ValueError, match="feature maps of 2 images and 1 infos"):
            head.propose(found, [INFO], training=False)


class TestLosses:
    @pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
    def test_boxes(self, kind: Any):
        head = tiny(bbox_loss=kind, smooth_l1_beta=0.3, loss_weights=(2.0, 3.0), sampler={"num": 100000})
        found = head(maps(1))
        target = objects([10, 10, 40, 42], [3, 20, 30, 60])
        trained = head.anchor_targets(found[0], [INFO], [target])
        terms = head.losses(found, [INFO], [target])
        offsets = flatten_maps(found[1], 4)[0, trained.pos_inds]
        anchors = torch.cat(head.anchors_for(found[0]))[trained.pos_inds]
        coder = DeltaXYWHBBoxCoder()
        if kind == "giou":
            expected = 1 - box_iou(coder.decode(anchors, offsets), trained.pos_boxes, "giou").diagonal()
        else:
            gap = (offsets - coder.encode(anchors, trained.pos_boxes)).abs()
            expected = gap if kind == "l1" else torch.where(gap < 0.3, gap**2 / 0.6, gap - 0.15)
        count = trained.num_pos[0] + trained.num_neg[0]
        assert trained.num_pos[0] >= 2
        torch.testing.assert_close(terms["loss_rpn_bbox"], 3 * expected.sum() / count)
        logits = flatten_maps(found[0], 1)[0, :, 0]
        wrong = torch.cat((-logits[trained.pos_inds], logits[trained.neg_inds]))
        torch.testing.assert_close(terms["loss_rpn_cls"], 2 * nn.functional.softplus(wrong).sum() / count)

    def test_images_without_objects(self):
        head = tiny()
        found = head(maps())
        terms = head.losses(found, [INFO, INFO], [objects(), objects()])
        assert terms["loss_rpn_bbox"].item() == 0
        logits = flatten_maps(found[0], 1)
        assert logits.shape[1] == 240, "the sampler takes all anchors"
        # A positive anchor per image counts that is not there, as in OpenMMLab.
        torch.testing.assert_close(terms["loss_rpn_cls"], nn.functional.softplus(logits).sum() / (2 * (240 + 1)))
        torch.stack(list(terms.values())).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        assert not head.rpn_reg.weight.grad.any()  # pyright: ignore[reportOptionalMemberAccess]
        assert head.rpn_cls.weight.grad.any()  # pyright: ignore[reportOptionalMemberAccess]

    def test_half_precision(self):
        head = tiny()
        with torch.autocast("cpu", torch.bfloat16):
            found = head(maps())
            assert found[0][0].dtype == torch.bfloat16
            terms = head.losses(found, [INFO, INFO], [objects([10, 10, 40, 42]), objects()])
            proposals = head.propose(found, [INFO, INFO], training=True)
        assert all(one.dtype == torch.float32 and one.isfinite() for one in terms.values())
        assert proposals[0].boxes.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"assigner": {"pos_iou": 0.7}}, "Did you mean 'pos_iou_thr'"),
        ({"sampler": {"number": 3}}, "sampler has no setting 'number'"),
        ({"sampler": {"add_gt_as_proposals": True}}, "trains anchors"),
        ({"anchor_generator": {"scale": (8,)}}, "Did you mean 'scales'"),
        ({"bbox_coder": {"means": (0, 0, 0, 0)}}, "Did you mean 'target_means'"),
        ({"test_proposals": {"nms": 0.7}}, "Did you mean 'nms_"),
        ({"train_proposals": {"nms_thr": 0.7}}, "train_proposals has no setting"),
        ({"bbox_loss": "smooth-l1"}, "Did you mean 'smooth_l1'"),
        ({"loss_weights": (1.0,)}, "loss_weights"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        RPNHead(**arguments)


def test_losses_learn():
    """A few steps on one image bring proposals to its object."""
    torch.manual_seed(0)
    head = RPNHead(8, 32, ANCHORS, sampler={"num": 64})
    features, target = maps(1), objects([10, 12, 45, 50])
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(head.losses(head(features), [INFO], [target]).values())).sum().backward()
        optimizer.step()
    (found,) = head.propose(head(features), [INFO], training=False)
    assert box_iou(found.boxes[:1], target.boxes).item() > 0.7
    assert found.scores[0] > 0.5
