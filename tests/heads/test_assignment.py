"""Matching priors to objects, and sampling them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.heads import assignment
from attnzoo.heads.assignment import MaxIoUAssigner, PseudoSampler, RandomSampler
from attnzoo.heads.boxes import box_iou
from support import head_packs
from support.codec_packs import PACK, TENSORS, cases, check_equal, opened, random_boxes


def assign_slowly(assigner: MaxIoUAssigner, priors: torch.Tensor, boxes: torch.Tensor) -> list[int]:
    """The definition, a prior and an object at a time."""
    iou = box_iou(boxes, priors)
    found = []
    for prior in range(len(priors)):
        best = max(range(len(boxes)), key=lambda box, prior=prior: float(iou[box, prior]))
        value = iou[best, prior]
        if value >= assigner.pos_iou_thr:
            found.append(best + 1)
        else:
            found.append(0 if value < assigner.neg_iou_thr else -1)
    if assigner.match_low_quality:
        for box in range(len(boxes)):
            if iou[box].max() >= assigner.min_pos_iou:
                equal = [i for i in range(len(priors)) if iou[box, i] == iou[box].max()]
                for prior in equal if assigner.gt_max_assign_all else equal[:1]:
                    found[prior] = box + 1
    return found


class TestAssigner:
    @pytest.mark.parametrize("chunk", [assignment.CPU_CHUNK, 100])
    @pytest.mark.parametrize("name", cases("assign"))
    def test_matches_the_reference(self, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(assignment, "CPU_CHUNK", chunk)
        case, inputs, tensors = opened(name)
        assigner = MaxIoUAssigner(**head_packs.without_type(inputs["assigner"]))
        found = assigner.assign(tensors["priors"], tensors["gt"], tensors["gt_labels"], tensors.get("ignored"))
        check_equal(found.gt_inds, case, "gt_inds")
        check_equal(found.labels, case, "labels")
        torch.testing.assert_close(found.max_overlaps, TENSORS[f"{name}/max_overlaps"].view(-1))
        counts = {str(key): int((found.gt_inds == key).sum()) for key in found.gt_inds.unique().tolist()}
        assert counts == case["counts"]

    @pytest.mark.parametrize("chunk", [1 << 20, 1, 37])
    @pytest.mark.parametrize("every", [False, True])
    @pytest.mark.parametrize("low", [False, True])
    def test_definition(self, low: bool, every: bool, chunk: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(assignment, "CPU_CHUNK", chunk)
        assigner = MaxIoUAssigner(0.5, 0.3, 0.1, match_low_quality=low, gt_max_assign_all=every)
        for seed in range(3):
            # coarse coordinates, so that overlaps are equal now and then
            priors, boxes = ((random_boxes(count, seed + count, 12).round()) for count in (40, 6))
            found = assigner.assign(priors, boxes, torch.arange(6))
            assert found.gt_inds.tolist() == assign_slowly(assigner, priors, boxes)

    def test_no_priors(self):
        found = MaxIoUAssigner(0.5, 0.5).assign(torch.zeros(0, 4), random_boxes(2), torch.zeros(2, dtype=torch.int64))
        assert found.gt_inds.shape == found.labels.shape == found.max_overlaps.shape == (0,)

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch):
        """No overlaps of more elements than agreed exist at a time."""
        sizes = []
        monkeypatch.setattr(assignment, "CPU_CHUNK", 1000)
        real = assignment.box_iou
        monkeypatch.setattr(
            assignment, "box_iou", lambda *args, **kw: sizes.append((r := real(*args, **kw)).numel()) or r
        )
        MaxIoUAssigner(0.5, 0.5).assign(random_boxes(5000), random_boxes(30, 1), torch.zeros(30, dtype=torch.int64))
        assert max(sizes) <= 1000
        assert sum(sizes) >= 5000 * 30

    def test_thresholds(self):
        with pytest.raises(ValueError, match="neg_iou_thr <= pos_iou_thr"):
            MaxIoUAssigner(0.5, 0.7)


class TestSamplers:
    def assigned(self) -> tuple[dict[str, Any], dict[str, torch.Tensor], assignment.Assignment]:
        _, inputs, tensors = opened("sample_all")
        assigner = MaxIoUAssigner(**head_packs.without_type(inputs["assigner"]))
        return inputs, tensors, assigner.assign(tensors["priors"], tensors["gt"], tensors["gt_labels"])

    def test_matches_the_reference(self):
        case = head_packs.case_of(PACK, "sample_all")
        inputs, tensors, assigned = self.assigned()
        sampler = RandomSampler(**head_packs.without_type(inputs["sampler"]))
        found = sampler.sample(assigned, tensors["priors"], tensors["gt"], tensors["gt_labels"])
        for name in case["outputs"]:
            check_equal(getattr(found, name), case, name)
        candidates = torch.cat((tensors["gt"], tensors["priors"]))
        assert torch.equal(found.priors, candidates[torch.cat((found.pos_inds, found.neg_inds))])
        assert torch.equal(found.pos_gt_boxes, tensors["gt"][found.pos_assigned_gt_inds])
        assert found.avg_factor == case["avg_factor"]

    @pytest.mark.parametrize(
        ("num", "fraction", "bound", "expected"),
        [(64, 0.25, -1, (16, 48)), (200, 0.5, -1, (42, 158)), (64, 0.25, 2, (16, 32)), (20, 0.0, 3, (0, 3))],
    )
    def test_counts(self, num: int, fraction: float, bound: float, expected: tuple[int, int]):
        _, tensors, assigned = self.assigned()
        torch.manual_seed(0)
        sampler = RandomSampler(num, fraction, bound, add_gt_as_proposals=False)
        found = sampler.sample(assigned, tensors["priors"], tensors["gt"], tensors["gt_labels"])
        assert (len(found.pos_inds), len(found.neg_inds)) == expected
        assert (assigned.gt_inds[found.pos_inds] > 0).all()
        assert (assigned.gt_inds[found.neg_inds] == 0).all()
        assert len({*found.pos_inds.tolist(), *found.neg_inds.tolist()}) == sum(expected)

    def test_sampling_follows_the_seed(self):
        _, tensors, assigned = self.assigned()
        sampler = RandomSampler(32, 0.25, add_gt_as_proposals=False)
        draws = []
        for seed in (0, 1, 0):
            torch.manual_seed(seed)
            draws.append(sampler.sample(assigned, tensors["priors"], tensors["gt"], tensors["gt_labels"]).neg_inds)
        assert torch.equal(draws[0], draws[2])
        assert not torch.equal(draws[0], draws[1])

    def test_without_objects(self):
        priors, none = random_boxes(9), torch.zeros(0, 4)
        labels = torch.zeros(0, dtype=torch.int64)
        assigned = MaxIoUAssigner(0.5, 0.5).assign(priors, none, labels)
        for sampler in (RandomSampler(4, 0.5), PseudoSampler()):
            found = sampler.sample(assigned, priors, none, labels)
            assert found.pos_gt_boxes.shape == found.pos_priors.shape == (0, 4)
            assert len(found.pos_gt_labels) == 0
            assert len(found.neg_inds) == (4 if isinstance(sampler, RandomSampler) else 9)

    def test_ground_truth_boxes_are_the_first_candidates(self):
        boxes, labels = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]), torch.tensor([4, 2])
        priors = torch.tensor([[0.0, 0.0, 10.0, 9.0], [50.0, 0.0, 60.0, 10.0], [20.0, 1.0, 30.0, 10.0]])
        assigned = MaxIoUAssigner(0.5, 0.5).assign(priors, boxes, labels)
        found = RandomSampler(8, 0.5).sample(assigned, priors, boxes, labels)
        assert (found.pos_inds.tolist(), found.neg_inds.tolist()) == ([0, 1, 2, 4], [3])
        assert found.pos_is_gt.tolist() == [True, True, False, False]
        assert found.pos_gt_labels.tolist() == [4, 2, 4, 2]

    def test_the_pseudo_sampler_keeps_all(self):
        _, tensors, assigned = self.assigned()
        found = PseudoSampler().sample(assigned, tensors["priors"], tensors["gt"], tensors["gt_labels"])
        assert found.pos_inds.tolist() == [i for i, one in enumerate(assigned.gt_inds.tolist()) if one > 0]
        assert found.neg_inds.tolist() == [i for i, one in enumerate(assigned.gt_inds.tolist()) if one == 0]
        assert torch.equal(found.pos_gt_labels, assigned.labels[found.pos_inds])

    def test_settings(self):
        for settings in ((0, 0.5), (4, 1.5)):
            with pytest.raises(ValueError, match="num="):
                RandomSampler(*settings)
