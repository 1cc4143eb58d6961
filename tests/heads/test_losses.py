"""Losses of detection and segmentation heads."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from attnzoo.heads import losses
from support import head_packs
from support.codec_packs import cases, opened

LOSSES = {
    "L1Loss": losses.l1_loss,
    "SmoothL1Loss": losses.smooth_l1_loss,
    "GIoULoss": losses.giou_loss,
    "FocalLoss": losses.sigmoid_focal_loss,
}


class TestLosses:
    @pytest.mark.parametrize("name", cases("loss_fn"))
    def test_matches_the_reference(self, name: str):
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

    def test_focal_loss_saves_the_logits_only(self):
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
