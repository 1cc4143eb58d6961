"""RoI heads against the official ones: raw outputs, detections, masks, losses and targets."""

import pytest
import torch

from attnzoo.heads.roi.base import RoIHead
from attnzoo.heads.roi.bbox_head import BBoxHead
from attnzoo.heads.roi.mask_head import FCNMaskHead
from support import head_packs
from support.roi_packs import PACKS, Seen, loaded_detector, rle

torch.set_num_threads(1)


QUICK = {
    "faster_rcnn": ("given", "given_no_rescale", "images", "roi_loss"),
    "mask_rcnn": ("given", "roi_loss"),
    "cascade_mask_rcnn": ("given",),
    "cascade_mask_rcnn_swin": ("roi_loss",),
}
"""The cases that the default suite has time for."""


def cases():
    """Gives all cases, pack by pack, so that each pack's weights are made once."""
    return [
        pytest.param(name, case, id=f"{name}-{case}", marks=[] if case in QUICK[name] else pytest.mark.slow)
        for name in PACKS
        for case in head_packs.case_names(name)
    ]


def check_raw(seen, case, tensors):
    """Compares what the box heads said of all regions of the batch."""
    outputs = case["outputs"]
    for stage, (logits, offsets) in enumerate(seen.boxes):
        suffix = f"_s{stage}" if f"cls_score_s{stage}" in outputs else ""
        head_packs.check(logits, case, tensors, f"cls_score{suffix}")
        head_packs.check(offsets, case, tensors, f"bbox_pred{suffix}")
    assert len(seen.boxes) == sum(name.startswith("cls_score") for name in outputs)


def check_masks(seen, found, case, tensors):
    """Compares the small masks of the detections' own classes, and the pasted ones."""
    counts = [len(one) for one in found]
    labels = torch.cat([one.labels for one in found])
    stages = [one[torch.arange(len(labels)), labels] for one in seen.masks]
    logits = "mask_logits_0" in case["outputs"]
    small = stages[0] if logits else torch.stack([one.sigmoid() for one in stages]).mean(0)
    for image, (maps, one) in enumerate(zip(small.split(counts), found, strict=True)):
        head_packs.check(maps, case, tensors, f"{'mask_logits' if logits else 'mask_probs'}_{image}")
        assert one.masks.dtype == torch.bool
        golden = case["rle"][image]
        assert golden
        assert [rle(mask) for mask in one.masks[: len(golden)]] == golden
        head_packs.check(one.masks.float(), case, tensors, f"masks_{image}", tolerance=0.0)
        head_packs.check(one.masks.sum((1, 2)).float(), case, tensors, f"mask_areas_{image}", tolerance=0.0)


def check_predictions(head, features, proposals, case, tensors):
    infos = head_packs.infos(case)
    with Seen(head) as seen:
        found = head.predict(features, proposals, infos, rescale=case["inputs"]["rescale"])
    check_raw(seen, case, tensors)
    assert [len(one) for one in found] == case["found"]["detections"]
    for image, one in enumerate(found):
        head_packs.check_detections(one, case, tensors, image)
        assert torch.equal(one.labels.float(), tensors[f"{case['name']}/labels_{image}"].reshape(-1).float())
    if head.with_mask:
        check_masks(seen, found, case, tensors)
    else:
        assert all(one.masks is None for one in found)


def spied(monkeypatch, kind, method):
    """Gives a list that all arguments of a method's calls go to."""
    calls, real = [], getattr(kind, method)

    def kept(self, *given):
        calls.append((self, *given))
        return real(self, *given)

    monkeypatch.setattr(kind, method, kept)
    return calls


def check_targets(box_calls, mask_calls, case, tensors):
    """Compares what boxes and masks are trained for, stage by stage."""
    staged = "targets_labels_s0" in case["outputs"]
    for stage, (head, _, _, boxes, labels, gt_boxes) in enumerate(box_calls):
        suffix = f"_s{stage}" if staged else ""
        head_packs.check(labels.float(), case, tensors, f"targets_labels{suffix}", tolerance=0.0)
        foreground = labels < head.num_classes
        if head.bbox_loss != "giou":
            gt_boxes = head.bbox_coder.encode(boxes, gt_boxes)
        head_packs.check(gt_boxes * foreground[:, None], case, tensors, f"targets_boxes{suffix}")
        assert len(labels) == case["counts"][f"samples{suffix}"]
        assert foreground.sum() == case["counts"][f"positives{suffix}"]
    for stage, (_, _, labels, targets) in enumerate(mask_calls):
        suffix = f"_s{stage}" if staged else ""
        head_packs.check(targets, case, tensors, f"targets_masks{suffix}", tolerance=0.0)
        assert targets.sum() == case["counts"][f"mask_targets_on{suffix}"]
        assert len(labels) == len(targets)


def check_given(detector, case, tensors, monkeypatch):
    """Detections of given proposals."""
    check_predictions(detector.roi_head, head_packs.features(case), head_packs.proposals(case, tensors), case, tensors)


def check_roi_losses(detector, case, tensors, monkeypatch):
    """Losses of given proposals, and what they are trained for."""
    head = detector.roi_head
    box_calls, mask_calls = spied(monkeypatch, BBoxHead, "losses"), spied(monkeypatch, FCNMaskHead, "losses")
    draws = spied(monkeypatch, RoIHead, "_sample")
    proposals, targets = head_packs.proposals(case, tensors), head_packs.targets(case, tensors)
    losses = head.losses(head_packs.features(case), proposals, targets, head_packs.infos(case))
    head_packs.check_losses(losses, case)
    check_targets(box_calls, mask_calls, case, tensors)
    stages = max(1, sum(name.endswith(".loss_cls") for name in case["losses"]))
    assert (len(box_calls), len(mask_calls), len(draws)) == (stages, stages * head.with_mask, stages)
    for stage, (_, _, boxes, _) in enumerate(draws[1:]):
        for image, one in enumerate(boxes):
            golden = tensors[f"{case['name']}/refined_s{stage}_{image}"]
            torch.testing.assert_close(one, golden.view(-1, 4), rtol=0, atol=1e-3)


def check_from_maps(detector, case, tensors, monkeypatch, features=None):
    """Proposals and detections from the neck's maps."""
    features = head_packs.features(case) if features is None else features
    infos = head_packs.infos(case)
    maps = detector.rpn_head(features)
    for kind, levels in zip(("cls", "reg"), maps, strict=True):
        for level, one in enumerate(levels):
            head_packs.check(one, case, tensors, f"rpn_{kind}_{level}")
    proposals = detector.rpn_head.propose(maps, infos, training=False)
    assert [len(one) for one in proposals] == case["found"]["proposals"]
    for image, one in enumerate(proposals):
        head_packs.check_detections(one, case, tensors, image, head_packs.proposal_names())
    check_predictions(detector.roi_head, features, proposals, case, tensors)


def check_images(detector, case, tensors, monkeypatch):
    """Everything from images on."""
    batch = head_packs.batch(detector.pack, case)
    head_packs.check(batch, case, tensors, "input")
    features = detector.neck(detector.backbone(batch))
    for level, one in enumerate(features):
        head_packs.check(one, case, tensors, f"neck_{level}")
    check_from_maps(detector, case, tensors, monkeypatch, features)


def check_all_losses(detector, case, tensors, monkeypatch):
    """Losses of both stages, on the proposals of training."""
    features, infos = head_packs.features(case), head_packs.infos(case)
    targets = head_packs.targets(case, tensors)
    maps = detector.rpn_head(features)
    losses = detector.rpn_head.losses(maps, infos, targets)
    proposals = detector.rpn_head.propose(maps, infos, training=True)
    losses |= detector.roi_head.losses(features, proposals, targets, infos)
    head_packs.check_losses(losses, case)


CHECKS = {
    "predict": check_from_maps,
    "predict_given": check_given,
    "images": check_images,
    "roi_loss": check_roi_losses,
    "loss": check_all_losses,
}


@pytest.mark.parametrize(("name", "case_name"), cases())
@torch.no_grad()
def test_matches_the_reference_implementation(name, case_name, monkeypatch):
    pack, tensors = head_packs.load(name)
    case = head_packs.case_of(pack, case_name)
    CHECKS[case["call"]](loaded_detector(name), case, tensors, monkeypatch)
