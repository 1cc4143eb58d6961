"""What RoI heads of one and of several stages share."""

import pytest
import torch

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


def deviation(tensor):
    return tensor.detach().double().pow(2).mean().sqrt().item()


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
def test_no_score_above_the_threshold_gives_no_detections(kind):
    head = small_head(kind, test={"score_thr": 1.0}).eval()
    assert [len(one) for one in head.predict(maps(), [found(4), found(5)], infos())] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_different_sizes_are_independent(kind):
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


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_get_no_gradient(kind):
    head = small_head(kind).train()
    proposals = [found(5, 0), found(5, 1)]
    for one in proposals:
        one.boxes.requires_grad_()
    losses = head.losses(maps(), proposals, [objects(2, 2), objects(2, 3)], infos())
    total(losses).backward()
    assert all(one.boxes.grad is None for one in proposals)


def test_proposals_inside_ignored_boxes_are_not_trained():
    head = small_head(assigner={"ignore_iof_thr": 0.5}, mask_head=None)
    proposals = [boxes(5, 0), boxes(5, 1)]
    targets = [objects(1, 2), objects(1, 3)]
    targets[1].ignored_boxes = proposals[1][2:4] + 0.1
    samples = head._sample(head.assigner, proposals, targets)
    counts = [len(one.pos_inds) + len(one.neg_inds) for one in samples]
    assert counts[0] == 6, "five proposals and an object"
    assert counts[1] < 5
    assert not {3, 4} & set(samples[1].neg_inds.tolist())  # the object is row 0


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_head_detects_its_training_objects(kind):
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
