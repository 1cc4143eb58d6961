"""What heads are made of besides convolutions: anchors, box coding, overlap, assignment, suppression, losses."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from attnzoo.heads import assignment, losses
from attnzoo.heads import nms as nms_module
from attnzoo.heads.anchors import AnchorGenerator
from attnzoo.heads.assignment import MaxIoUAssigner, PseudoSampler, RandomSampler
from attnzoo.heads.boxes import DeltaXYWHBBoxCoder, box_iou, clip_boxes, scale_boxes, wider_and_higher_than
from attnzoo.heads.nms import batched_nms, multiclass_nms
from support import head_packs

PACK, TENSORS = head_packs.load("codecs")


def cases(*calls: str) -> list[str]:
    return head_packs.case_names("codecs", *calls)


def opened(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Gives a case, its plain inputs and its tensors."""
    case = head_packs.case_of(PACK, name)
    return case, case["inputs"], {key: head_packs.given(case, TENSORS, key) for key in case["input_tensors"]}


def check(actual: torch.Tensor, case: dict[str, Any], name: str) -> None:
    head_packs.check(actual, case, TENSORS, name)


def check_equal(actual: torch.Tensor, case: dict[str, Any], name: str) -> None:
    head_packs.check_equal(actual, case, TENSORS, name)


def random_boxes(count: int, seed: int = 0, size: float = 100.0) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * size
    return torch.cat((corners.amin(1), corners.amax(1) + 1), dim=1)


class TestAnchors:
    @pytest.mark.parametrize("name", cases("anchors"))
    def test_official(self, name: str):
        case, inputs, _ = opened(name)
        generator = AnchorGenerator(**head_packs.without_type(inputs["anchor_generator"]))
        assert [generator.num_anchors] * generator.num_levels == case["num_base_priors"]
        grids = generator.grid_anchors(inputs["featmap_sizes"])
        flags = generator.valid_flags(inputs["featmap_sizes"], inputs["pad_shape"])
        for level, (grid, valid) in enumerate(zip(grids, flags, strict=True)):
            check_equal(generator.base_anchors(level), case, f"base_{level}")
            check_equal(grid, case, f"grid_{level}")
            check_equal(valid, case, f"valid_{level}")

    def test_what_does_not_fit(self):
        with pytest.raises(ValueError, match="must be given together"):
            AnchorGenerator((4,), octave_base_scale=4)
        with pytest.raises(ValueError, match="not both"):
            AnchorGenerator((4,), scales=(8,), octave_base_scale=4, scales_per_octave=3)
        with pytest.raises(ValueError, match="ratios must be a non-empty list of positive numbers"):
            AnchorGenerator((4,), ratios=(0.0,))
        with pytest.raises(ValueError, match="strides must be a non-empty list of positive numbers"):
            AnchorGenerator(())
        with pytest.raises(ValueError, match=r"per stride \(\d+, \d+\), got [13] maps"):
            AnchorGenerator((4, 8)).grid_anchors([(3, 3)])
        with pytest.raises(ValueError, match=r"per stride \(\d+, \d+\), got [13] maps"):
            AnchorGenerator((4, 8)).valid_flags([(3, 3)], (8, 8))


class TestCoder:
    @pytest.mark.parametrize("name", cases("encode"))
    def test_encode(self, name: str):
        case, inputs, tensors = opened(name)
        coder = DeltaXYWHBBoxCoder(**head_packs.without_type(inputs["bbox_coder"]))
        check(coder.encode(tensors["boxes"], tensors["gt"]), case, "deltas")

    @pytest.mark.parametrize("name", cases("decode"))
    def test_decode(self, name: str):
        case, inputs, tensors = opened(name)
        coder = DeltaXYWHBBoxCoder(**head_packs.without_type(inputs["bbox_coder"]))
        clip = {"wh_ratio_clip": inputs["wh_ratio_clip"]} if "wh_ratio_clip" in inputs else {}
        found = coder.decode(tensors["boxes"], tensors["deltas"], inputs["max_shape"], **clip)
        check(found, case, "boxes")
        assert (found - TENSORS[f"{name}/boxes"].view_as(found)).abs().max() <= 1e-3

    def test_there_and_back(self):
        coder = DeltaXYWHBBoxCoder((0.1, 0.0, -0.1, 0.2), (0.1, 0.1, 0.2, 0.3))
        priors, boxes = random_boxes(50, 1), random_boxes(50, 2)
        torch.testing.assert_close(coder.decode(priors, coder.encode(priors, boxes)), boxes, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize("classes", [1, 3])
    def test_no_boxes(self, classes: int):
        none = torch.zeros(0, 4)
        assert DeltaXYWHBBoxCoder().decode(none, none.repeat(1, classes), (10, 10)).shape == (0, 4 * classes)
        assert DeltaXYWHBBoxCoder().encode(none, none).shape == (0, 4)

    def test_sides_are_bounded_by_value(self):
        """exp(4.135...) = 62.5 = 1000 / 16, on both sides."""
        prior = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        large = DeltaXYWHBBoxCoder().decode(prior, torch.tensor([[0.0, 0.0, 9.0, -9.0]]))[0]
        assert (large[2] - large[0]).item() == pytest.approx(625, rel=1e-5)
        assert (large[3] - large[1]).item() == pytest.approx(0.16, rel=1e-4)

    def test_settings(self):
        for settings in ({"target_means": (0, 0)}, {"target_stds": (1, 1, 0, 1)}):
            with pytest.raises(ValueError, match="four"):
                DeltaXYWHBBoxCoder(**settings)


class TestOverlap:
    @pytest.mark.parametrize("mode", ["iou", "iof", "giou"])
    def test_official(self, mode: Any):
        case, _, tensors = opened("overlaps")
        found = box_iou(tensors["a"], tensors["b"], mode)
        check(found, case, mode)
        torch.testing.assert_close(found, TENSORS[f"overlaps/{mode}"].view_as(found), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("mode", ["iou", "iof", "giou"])
    def test_aligned_is_the_diagonal(self, mode: Any):
        a, b = random_boxes(9, 1), random_boxes(9, 2)
        torch.testing.assert_close(box_iou(a, b, mode, aligned=True), box_iou(a, b, mode).diagonal())

    def test_no_boxes_and_boxes_without_area(self):
        assert box_iou(torch.zeros(0, 4), random_boxes(3)).shape == (0, 3)
        point = torch.full((1, 4), 5.0)
        assert box_iou(point, point).item() == box_iou(point, point, "giou").item() == 0

    def test_what_does_not_fit(self):
        with pytest.raises(ValueError, match="Did you mean 'iou' or 'giou'"):
            box_iou(random_boxes(1), random_boxes(1), "diou")  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="equal in number, got 1 and 2"):
            box_iou(random_boxes(1), random_boxes(2), aligned=True)

    def test_clip_scale_and_size(self):
        boxes = torch.tensor([[-3.0, 2.0, 50.0, 60.0], [4.0, 4.0, 4.0, 9.0]])
        assert clip_boxes(boxes, (40, 30)).tolist() == [[0, 2, 30, 40], [4, 4, 4, 9]]
        assert scale_boxes(boxes, (2.0, 0.5)).tolist() == [[-6, 1, 100, 30], [8, 2, 8, 4.5]]
        assert scale_boxes(boxes.repeat(1, 2), (2.0, 0.5))[0].tolist() == [-6, 1, 100, 30] * 2
        assert wider_and_higher_than(boxes, 0).tolist() == [True, False]
        assert wider_and_higher_than(boxes, 53).tolist() == [False, False]  # strictly


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
    def test_official(self, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch):
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

    def test_official(self):
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

    def test_drawn_anew_and_again(self):
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

    def test_all_of_them(self):
        _, tensors, assigned = self.assigned()
        found = PseudoSampler().sample(assigned, tensors["priors"], tensors["gt"], tensors["gt_labels"])
        assert found.pos_inds.tolist() == [i for i, one in enumerate(assigned.gt_inds.tolist()) if one > 0]
        assert found.neg_inds.tolist() == [i for i, one in enumerate(assigned.gt_inds.tolist()) if one == 0]
        assert torch.equal(found.pos_gt_labels, assigned.labels[found.pos_inds])

    def test_settings(self):
        for settings in ((0, 0.5), (4, 1.5)):
            with pytest.raises(ValueError, match="num="):
                RandomSampler(*settings)


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
    def test_batched_official(self, name: str):
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
    def test_multiclass_official(self, name: str):
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

    def test_groups_stay_apart_a_little_beyond_the_border(self):
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [-0.9, -0.9, 0.1, 0.1]])
        assert batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.arange(2), 0.5).tolist() == [0, 1]

    def test_overlap_at_the_threshold_stays(self):
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
        kept = batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), 0.5)
        assert kept.tolist() == [0, 1]

    def test_no_boxes(self):
        kept = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
        assert kept.shape == (0,)
        found, pairs = multiclass_nms(torch.zeros(0, 12), torch.zeros(0, 4), 0.05, 0.5, 100)
        assert found.boxes.shape == (0, 4)
        assert len(pairs) == 0


LOSSES = {
    "L1Loss": losses.l1_loss,
    "SmoothL1Loss": losses.smooth_l1_loss,
    "GIoULoss": losses.giou_loss,
    "FocalLoss": losses.sigmoid_focal_loss,
}


class TestLosses:
    @pytest.mark.parametrize("name", cases("loss_fn"))
    def test_official(self, name: str):
        case, inputs, tensors = opened(name)
        kind = inputs["loss"]["type"]
        if inputs["loss"].get("use_mask"):
            found = losses.mask_cross_entropy(tensors["pred"], tensors["target"], tensors["label"])
        else:
            settings = {key: inputs["loss"][key] for key in ("beta", "gamma", "alpha") if key in inputs["loss"]}
            if kind == "CrossEntropyLoss":
                function = losses.binary_cross_entropy if inputs["loss"]["use_sigmoid"] else losses.cross_entropy
            else:
                function = LOSSES[kind]
            found = function(
                tensors["pred"],
                tensors["target"],
                weight=tensors["weight"],
                avg_factor=inputs["avg_factor"],
                **settings,
            )
        assert found.item() * inputs["loss"]["loss_weight"] == pytest.approx(case["loss"], rel=head_packs.TOLERANCE)

    def test_the_divisor_has_the_step_of_float32(self):
        """By value: with a factor this small the added 1.1920929e-07 halves the loss."""
        assert losses.EPS == 1.1920928955078125e-07
        ones = torch.ones(1, 4)
        found = losses.l1_loss(ones, 0 * ones, avg_factor=torch.tensor(losses.EPS, dtype=torch.float64))
        assert found.item() == pytest.approx(4 / (2 * losses.EPS))

    def test_class_weights_and_ignored_labels(self):
        pred, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
        target[0, :2] = 255
        weight = torch.tensor([1.0, 2.0, 0.5])
        rows = -pred.log_softmax(1)
        expected = sum(
            float(weight[target[b, y, x]] * rows[b, target[b, y, x], y, x])
            for b, y, x in itertools.product(range(2), range(4), range(5))
            if target[b, y, x] != 255
        )
        found = losses.cross_entropy(pred, target, class_weight=weight, ignore_index=255)
        assert found.item() == pytest.approx(expected / 40, rel=1e-5)

    @pytest.mark.parametrize("chunk", [losses.CPU_CHUNK, 17])
    @pytest.mark.parametrize("gamma", [2.0, 1.5, 0.0])
    def test_focal_is_its_definition(self, gamma: float, chunk: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(losses, "CPU_CHUNK", chunk)
        pred, target, weight = 6 * torch.randn(30, 5), torch.randint(0, 6, (30,)), torch.rand(30)
        pred[0, 0], pred[1, 1], target[:2] = 90.0, -90.0, torch.tensor([0, 1])
        pred.requires_grad_()
        exact = pred.detach().double().requires_grad_()
        true = F.one_hot(target, 6)[:, :5].double()
        wrong = (1 - 2 * true) * exact
        expected = (0.7 - 0.4 * true) * wrong.sigmoid() ** gamma * -F.logsigmoid(-wrong) * weight[:, None]
        found = losses.sigmoid_focal_loss(pred, target, weight, avg_factor=3, gamma=gamma, alpha=0.3)
        assert found.item() == pytest.approx(expected.sum().item() / 3, rel=1e-5)
        (5 * found).backward()
        (5 / 3 * expected.sum()).backward()
        assert exact.grad is not None
        torch.testing.assert_close(pred.grad, exact.grad.float(), rtol=1e-4, atol=1e-6)
        mean = losses.sigmoid_focal_loss(pred, target, gamma=gamma, alpha=0.3)
        assert mean.item() == pytest.approx((expected / weight[:, None]).mean().item(), rel=1e-5)

    def test_focal_keeps_no_table_but_the_logits(self):
        kept = []
        pred = torch.randn(40, 6, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda one: (kept.append(one), one)[1], lambda one: one):
            losses.sigmoid_focal_loss(2 * pred, torch.randint(0, 7, (40,)), avg_factor=1)
        assert sum(one.shape == pred.shape for one in kept) == 1

    def test_half_precision_is_computed_in_float32(self):
        pred = torch.full((1, 2), 12.0, dtype=torch.float16)
        assert losses.sigmoid_focal_loss(pred, torch.tensor([0])).dtype == torch.float32
        assert losses.cross_entropy(pred, torch.tensor([0])).dtype == torch.float32
        assert losses.binary_cross_entropy(pred, torch.tensor([0])).item() == pytest.approx(6, abs=1e-3)

    @pytest.mark.parametrize("factor", [None, 2])
    def test_nothing_to_compute(self, factor: float | None):
        labels = torch.zeros(0, dtype=torch.int64)
        for function, shape, target in (
            (losses.cross_entropy, (0, 3), labels),
            (losses.binary_cross_entropy, (0, 3), labels),
            (losses.sigmoid_focal_loss, (0, 3), labels),
            (losses.l1_loss, (0, 4), torch.zeros(0, 4)),
            (losses.smooth_l1_loss, (0, 4), torch.zeros(0, 4)),
            (losses.giou_loss, (0, 4), torch.zeros(0, 4)),
        ):
            everything = torch.randn(5, shape[1], requires_grad=True)
            loss = function(everything[labels], target, avg_factor=factor)
            assert loss.item() == 0, function
            loss.backward()
            assert everything.grad is not None, function
            assert not everything.grad.any(), function
