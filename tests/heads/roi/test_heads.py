"""RoI heads beside the packs: initialisation, nothing to look at, several images, precision."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.heads.roi import CascadeRoIHead, StandardRoIHead, base
from attnzoo.heads.roi.bbox_head import BBoxHead
from attnzoo.heads.roi.mask_head import FCNMaskHead
from attnzoo.heads.structures import Detections
from support.small_rois import (
    KINDS,
    SMALL_BOX,
    SMALL_MASK,
    boxes,
    found,
    infos,
    maps,
    masks_of,
    objects,
    small_head,
    total,
)

# Initialisation and defaults


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


def test_defaults_are_those_of_the_published_models():
    faster, mask, cascade = StandardRoIHead(80), StandardRoIHead(80, mask_head={}), CascadeRoIHead(80)
    assert not faster.assigner.match_low_quality
    assert mask.assigner.match_low_quality
    for head in (faster, mask, cascade):
        assert (head.sampler.num, head.sampler.pos_fraction, head.sampler.add_gt_as_proposals) == (512, 0.25, True)
        assert head.test == {
            "score_thr": 0.05,
            "nms_iou": 0.5,
            "max_per_img": 100,
            "mask_thr": 0.5,
            "rescale_before_nms": None,
        }
    for head in (faster, mask):
        assigner = head.assigner
        assert (assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou) == (0.5, 0.5, 0.5)
    assert [one.pos_iou_thr for one in cascade.assigners] == [0.5, 0.6, 0.7]
    assert not any(one.match_low_quality for one in cascade.assigners)
    assert cascade.loss_weights == [1.0, 0.5, 0.25]
    assert [one.bbox_coder.stds[0] for one in cascade.bbox_head] == [0.1, 0.05, 0.033]
    assert all(one.fc_reg.out_features == 4 and one.bbox_loss == "smooth_l1" for one in cascade.bbox_head)
    assert faster.bbox_head.fc_reg.out_features == 320
    assert (mask.mask_size, faster.mask_size, hasattr(faster, "mask_head")) == (28, None, False)


# Nothing to look at


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("num_proposals", "num_objects"),
    [((0, 0), (0, 0)), ((5, 0), (0, 0)), ((0, 5), (0, 2)), ((0, 0), (2, 0)), ((5, 5), (2, 1))],
)
@pytest.mark.parametrize("bbox_loss", ["l1", "giou"])
def test_every_parameter_has_a_gradient_whatever_the_images_hold(kind, num_proposals, num_objects, bbox_loss):
    head = small_head(kind, bbox_head={**SMALL_BOX, "bbox_loss": bbox_loss}).train()
    features = [one.requires_grad_() for one in maps()]
    proposals = [found(count, seed) for seed, count in enumerate(num_proposals)]
    targets = [objects(count, seed) for seed, count in enumerate(num_objects, start=2)]
    losses = head.losses(features, proposals, targets, infos())
    names = {"loss_cls", "loss_bbox", "loss_mask", "acc"}
    if kind is CascadeRoIHead:
        names = {f"s{stage}.{name}" for stage in range(3) for name in names}
    assert set(losses) == names
    assert all(one.shape == () and torch.isfinite(one) for one in losses.values())
    total(losses).backward()
    gradients = {name: one.grad for name, one in head.named_parameters() if one.grad is not None}
    assert set(gradients) == {name for name, _ in head.named_parameters()}
    assert all(torch.isfinite(one).all() for one in gradients.values())
    assert all(one.grad is not None for one in features[:2])
    anything, objects_at_all = any(num_proposals) or any(num_objects), any(num_objects)
    assert any(one.any() for one in gradients.values()) == anything
    masks = [one.any() for name, one in gradients.items() if name.startswith("mask_head")]
    assert any(masks) == objects_at_all
    assert all(torch.isfinite(one).all() for one in head.buffers())
    if not anything:
        assert not any(one.any() for one in losses.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("counts", [(0, 0), (0, 6)])
def test_images_without_proposals_have_no_detections(kind, with_mask, counts):
    head = small_head(kind, mask_head=SMALL_MASK if with_mask else None, test={"score_thr": 0.0}).eval()
    proposals = [found(count, seed) for seed, count in enumerate(counts)]
    for rescale, sizes in ((True, [(32, 40), (36, 64)]), (False, [(64, 80), (48, 96)])):
        detections = head.predict(maps(), proposals, infos(), rescale=rescale)
        assert [bool(len(one)) for one in detections] == [bool(count) for count in counts]
        for one, size in zip(detections, sizes, strict=True):
            assert one.boxes.shape == (len(one), 4)
            assert one.labels.dtype == torch.int64
            assert (one.masks is not None) == with_mask
            if one.masks is not None:
                assert one.masks.shape == (len(one), *size)
                assert one.masks.dtype == torch.bool


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_above_the_threshold_is_no_detection(kind):
    head = small_head(kind, test={"score_thr": 1.0}).eval()
    assert [len(one) for one in head.predict(maps(), [found(4), found(5)], infos())] == [0, 0]


# Several images, several stages


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_different_sizes_do_not_mix(kind):
    head = small_head(kind, test={"score_thr": 0.3, "max_per_img": 7}).eval()
    features, proposals = maps(), [found(9, 0), found(12, 1)]
    together = head.predict(features, proposals, infos())
    assert all(0 < len(one) <= 7 for one in together)
    for number, one in enumerate(together):
        alone = head.predict(
            [level[number : number + 1] for level in features], [proposals[number]], [infos()[number]]
        )[0]
        torch.testing.assert_close(one.boxes, alone.boxes)
        torch.testing.assert_close(one.scores, alone.scores)
        assert torch.equal(one.labels, alone.labels)
        assert masks_of(one).any()
        assert torch.equal(masks_of(one), masks_of(alone))
        assert one.scores.diff().le(0).all()
        height, width = infos()[number].original_size
        assert (one.boxes <= torch.tensor([width, height, width, height]) + 1e-4).all()
        assert (one.boxes >= 0).all()


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


def test_stages_look_at_what_the_stage_before_found():
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


def test_regions_move_with_their_true_class_in_training_and_with_the_best_object_else():
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


def test_the_scores_of_a_cascade_are_of_the_mean_logits():
    head = small_head(CascadeRoIHead, num_classes=1).eval()
    for stage, logits in zip(head.bbox_head, ([6.0, 0.0], [0.0, 0.0], [0.0, 3.0]), strict=True):
        nn.init.zeros_(stage.fc_cls.weight)
        stage.fc_cls.bias.data = torch.tensor(logits)
    scores = head(maps(), [boxes(3), boxes(0)], infos())[0].scores
    torch.testing.assert_close(scores, torch.tensor([2.0, 1.0]).softmax(0).expand(3, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_get_no_gradient(kind):
    head = small_head(kind).train()
    proposals = [found(5, 0), found(5, 1)]
    for one in proposals:
        one.boxes.requires_grad_()
    losses = head.losses(maps(), proposals, [objects(2, 2), objects(2, 3)], infos())
    total(losses).backward()
    assert all(one.boxes.grad is None for one in proposals)


# Test settings


@pytest.mark.parametrize(
    ("with_mask", "setting", "before"),
    [(False, None, True), (True, None, False), (True, True, True), (False, False, False)],
)
def test_boxes_are_rescaled_before_or_after_the_suppression(with_mask, setting, before, monkeypatch):
    head = small_head(
        mask_head=SMALL_MASK if with_mask else None, test={"score_thr": 0.3, "rescale_before_nms": setting}
    ).eval()
    plain = small_head(mask_head=SMALL_MASK if with_mask else None, test={"score_thr": 0.3}).eval()
    features, proposals = maps(), [found(9, 0), found(12, 1)]
    expected = plain.predict(features, proposals, infos())
    seen, real = [], base.multiclass_nms

    def kept(boxes, *rest):
        seen.append(boxes)
        return real(boxes, *rest)

    monkeypatch.setattr(base, "multiclass_nms", kept)
    got = head.predict(features, proposals, infos())
    raw = head(features, [one.boxes for one in proposals], infos())
    for boxes_seen, scored, info in zip(seen, raw, infos(), strict=True):
        factor = torch.tensor(info.scale_factor * 2 * 3)
        torch.testing.assert_close(boxes_seen, scored.boxes / factor if before else scored.boxes)
    for one, other in zip(got, expected, strict=True):  # no box lies at the threshold here
        assert len(one)
        torch.testing.assert_close(one.boxes, other.boxes)
        if with_mask:
            assert torch.equal(masks_of(one), masks_of(other))
    seen.clear()
    head.predict(features, proposals, infos(), rescale=False)
    for boxes_seen, scored in zip(seen, raw, strict=True):
        assert torch.equal(boxes_seen, scored.boxes)


def test_test_settings_count():
    head = small_head(test={"score_thr": 0.2, "max_per_img": -1, "nms_iou": 1.0}).eval()
    features, proposals = maps(), [found(9, 0), found(12, 1)]
    everything = head.predict(features, proposals, infos())
    raw = head(features, [one.boxes for one in proposals], infos())
    assert [len(one) for one in everything] == [int((one.scores[:, :-1] > 0.2).sum()) for one in raw]
    head.test["nms_iou"] = 0.1
    fewer = head.predict(features, proposals, infos())
    assert all(len(one) < len(other) for one, other in zip(fewer, everything, strict=True))
    head.test["mask_thr"] = 1e-6
    wider = head.predict(features, proposals, infos())
    for one, other in zip(wider, fewer, strict=True):
        assert masks_of(one).sum() > masks_of(other).sum()


# Class-agnostic masks, precision, compilers


def test_masks_of_all_classes_can_be_one():
    head = small_head(mask_head={**SMALL_MASK, "class_agnostic": True}).train()
    assert head.mask_head.conv_logits.out_channels == 1
    losses = head.losses(maps(), [found(5), found(5)], [objects(2), objects(3)], infos())
    assert losses["loss_mask"] > 0
    detections = head.eval().predict(maps(), [found(5), found(5)], infos())
    assert all(one.masks is not None and len(one.masks) == len(one) for one in detections)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_gives_losses_and_boxes_in_full(kind):
    head = small_head(kind, test={"score_thr": 0.3}).eval()
    proposals, targets = [found(9, 0), found(12, 1)], [objects(2, 3), objects(3, 4)]
    full = head.losses(maps(), proposals, targets, infos())
    with torch.autocast("cpu", torch.bfloat16):
        half = head.losses(maps(), proposals, targets, infos())
        features = [one.bfloat16() for one in maps()]
        detections = head.predict(features, proposals, infos())
    for name, one in half.items():
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, full[name], rtol=0.05, atol=0.05 if "loss" in name else 20)
    for one in detections:
        assert len(one)
        assert (one.boxes.dtype, one.scores.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(
    ("head", "size"), [(BBoxHead(3, 8, **SMALL_BOX), 7), (FCNMaskHead(3, 8, **SMALL_MASK), 14)], ids=["box", "mask"]
)
def test_the_heads_compile_and_export(head, size):
    head.eval()
    regions = torch.randn(4, 8, size, size)
    compiled = torch.compile(head, fullgraph=True, backend="eager")
    exported = torch.export.export(head, (regions,), dynamic_shapes=({0: torch.export.Dim("regions", min=2)},))
    for given in (regions, regions[:3]):
        expected = head(given)
        for got in (compiled(given), exported.module()(given)):
            torch.testing.assert_close(got, expected)


# Learning


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_is_found(kind):
    head = small_head(kind, sampler={"num": 64}, test={"score_thr": 0.5})
    targets = [objects(2, 5), objects(1, 6)]
    features = maps(seed=3)
    jitter = torch.Generator().manual_seed(7)
    proposals = []
    for target in targets:
        near = target.boxes.repeat(8, 1) + torch.randn(8 * len(target), 4, generator=jitter)
        one = torch.cat([near, boxes(20, 8)])
        proposals.append(Detections(one, one.new_ones(len(one)), torch.zeros(len(one), dtype=torch.int64)))
    optimizer = torch.optim.AdamW(head.parameters(), 0.01)
    for _ in range(60):
        losses = head.losses(features, proposals, targets, infos())
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    detections = head.eval().predict(features, proposals, infos(), rescale=False)
    for one, target, info in zip(detections, targets, infos(), strict=True):
        order = one.labels.argsort()
        assert one.labels[order].tolist() == target.labels.tolist()
        torch.testing.assert_close(one.boxes[order], target.boxes, rtol=0, atol=1.5)
        height, width = info.image_size
        mask, truth = masks_of(one)[order], masks_of(target)[:, :height, :width].bool()
        overlap = (mask & truth).sum((1, 2)) / (mask | truth).sum((1, 2))
        assert (overlap > 0.75).all(), overlap
