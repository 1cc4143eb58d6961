"""Non-maximum suppression per group and per class."""

from __future__ import annotations

import pytest
import torch

from attnzoo.heads import nms as nms_module
from attnzoo.heads.boxes import box_iou
from attnzoo.heads.nms import batched_nms, multiclass_nms
from support.codec_packs import cases, check, check_equal, opened, random_boxes


def suppress_slowly(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float) -> list[int]:
    """The definition, without moved coordinates."""
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        rivals = [other for other in kept if groups[other] == groups[row]]
        if not rivals or box_iou(boxes[row, None], boxes[rivals]).max() <= threshold:
            kept.append(row)
    return kept


class TestSuppression:
    @pytest.mark.parametrize("name", cases("batched_nms"))
    def test_batched_nms_matches_the_reference(self, name: str):
        case, inputs, tensors = opened(name)
        nms = {"split_thr": 10000, "class_agnostic": False, **inputs["nms"]}
        kept = batched_nms(
            tensors["boxes"],
            tensors["scores"],
            tensors["idxs"],
            nms["iou_threshold"],
            nms["class_agnostic"],
            nms["split_thr"],
        )
        assert len(kept) == case["found"]
        check_equal(kept, case, "keep")
        dets = torch.cat((tensors["boxes"][kept], tensors["scores"][kept, None]), dim=1)
        check(dets, case, "dets")

    @pytest.mark.parametrize("name", cases("multiclass_nms"))
    def test_multiclass_nms_matches_the_reference(self, name: str):
        case, inputs, tensors = opened(name)
        found, pairs = multiclass_nms(
            tensors["boxes"], tensors["scores"], inputs["score_thr"], inputs["nms"]["iou_threshold"], inputs["max_num"]
        )
        assert len(found) == case["found"]
        check(torch.cat((found.boxes, found.scores[:, None]), dim=1), case, "dets")
        check_equal(found.labels, case, "labels")
        check_equal(pairs, case, "inds")

    @pytest.mark.parametrize("split", [10000, 2])
    def test_definition(self, split: int):
        boxes, generator = random_boxes(80, 3), torch.Generator().manual_seed(4)
        scores, groups = torch.rand(80, generator=generator), torch.randint(0, 4, (80,), generator=generator)
        kept = batched_nms(boxes, scores, groups, 0.4, split_threshold=split)
        assert kept.tolist() == suppress_slowly(boxes, scores, groups, 0.4)
        assert 4 < len(kept) < 80
        agnostic = batched_nms(boxes, scores, groups, 0.4, class_agnostic=True, split_threshold=10000)
        assert agnostic.tolist() == suppress_slowly(boxes, scores, torch.zeros(80), 0.4)

    def test_one_pass_or_one_for_each_group(self, monkeypatch: pytest.MonkeyPatch):
        passes = []
        real = nms_module.nms
        monkeypatch.setattr(nms_module, "nms", lambda *args: (passes.append(len(args[0])), real(*args))[1])
        boxes, scores, groups = random_boxes(12), torch.rand(12), torch.arange(12) % 3
        batched_nms(boxes, scores, groups, 0.5, split_threshold=13)
        assert passes == [12]
        batched_nms(boxes, scores, groups, 0.5, split_threshold=12)
        assert passes == [12, 4, 4, 4]
        passes.clear()
        multiclass_nms(boxes, torch.rand(12, 3), -1.0, 0.5, split_threshold=24)
        assert passes == [12, 12]

    def test_groups_stay_apart_a_little_beyond_the_border(self):
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [-0.9, -0.9, 0.1, 0.1]])
        assert batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.arange(2), 0.5).tolist() == [0, 1]

    def test_overlap_at_the_threshold_stays(self):
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
        kept = batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), 0.5)
        assert kept.tolist() == [0, 1]

    def test_detections_score_above_the_threshold_and_not_at_it(self):
        scores = torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.25, 0.625]])
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
        found, pairs = multiclass_nms(boxes, scores, 0.25, 0.5)
        assert (found.labels.tolist(), pairs.tolist()) == ([1], [1])

    def test_classes_suppress_each_other_only_if_asked_to(self):
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
        scores = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]])
        for agnostic, labels in ((False, [0, 1]), (True, [0])):
            found, _ = multiclass_nms(boxes, scores, 0.5, 0.5, class_agnostic=agnostic)
            assert found.labels.tolist() == labels

    def test_no_boxes(self):
        kept = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
        assert kept.shape == (0,)
        found, pairs = multiclass_nms(torch.zeros(0, 12), torch.zeros(0, 4), 0.05, 0.5, 100)
        assert found.boxes.shape == (0, 4)
        assert len(pairs) == 0
