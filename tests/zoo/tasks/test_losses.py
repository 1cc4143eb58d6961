import math

import pytest
import torch
from timm.loss import binary_cross_entropy, cross_entropy

from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks.losses import soft_labels

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
LABELS = torch.tensor([0, 2])
SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.0, 0.9]])


def build(kind, **arguments):
    return MODELS.build({"type": kind, **arguments})


def test_cross_entropy_by_hand():
    expected = (math.log(1 + math.exp(-2) + math.exp(-3)) + math.log(3)) / 2
    assert build("CrossEntropy")(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-6)
    uneven = build("CrossEntropy")(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.25, 0.75]]))
    assert uneven.item() == pytest.approx(0.25 * math.log(4 / 3) + 0.75 * math.log(4), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothed_cross_entropy_is_timms(smoothing):
    expected = cross_entropy.LabelSmoothingCrossEntropy(smoothing)(LOGITS, LABELS)
    torch.testing.assert_close(build("CrossEntropy", label_smoothing=smoothing)(LOGITS, LABELS), expected)
    smoothed = build("SoftTargetCrossEntropy")(LOGITS, soft_labels(LABELS, 3, smoothing))
    torch.testing.assert_close(smoothed, expected)


def test_distributions_are_not_smoothed_again():
    expected = cross_entropy.SoftTargetCrossEntropy()(LOGITS, SOFT)
    torch.testing.assert_close(build("CrossEntropy", label_smoothing=0.3)(LOGITS, SOFT), expected)
    torch.testing.assert_close(build("SoftTargetCrossEntropy")(LOGITS, SOFT), expected)


@pytest.mark.parametrize("target", [LABELS, SOFT], ids=["labels", "soft"])
@pytest.mark.parametrize(
    ("smoothing", "threshold", "total"), [(0.0, None, False), (0.1, None, True), (0.1, 0.2, False), (0.0, 0.0, False)]
)
def test_binary_cross_entropy_is_timms(target, smoothing, threshold, total):
    loss = build("BinaryCrossEntropy", label_smoothing=smoothing, target_threshold=threshold, sum_classes=total)
    theirs = binary_cross_entropy.BinaryCrossEntropy(smoothing, threshold, sum_classes=total)
    torch.testing.assert_close(loss(LOGITS, target), theirs(LOGITS, target))


def test_binary_cross_entropy_by_hand():
    value = build("BinaryCrossEntropy")(torch.tensor([[0.0, 1.0]]), torch.tensor([1])).item()
    assert value == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2, rel=1e-6)


@pytest.mark.parametrize("kind", ["CrossEntropy", "SoftTargetCrossEntropy", "BinaryCrossEntropy"])
def test_half_precision_logits_are_computed_in_float32(kind):
    logits = (LOGITS * 1.7).to(torch.bfloat16).requires_grad_()
    loss = build(kind)(logits, SOFT)
    assert loss.dtype == torch.float32
    assert loss.item() == build(kind)(logits.detach().float(), SOFT).item()
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_labels_without_mixing_are_refused_where_distributions_are_meant():
    with pytest.raises(ValueError, match="which `mixing` returns"):
        build("SoftTargetCrossEntropy")(LOGITS, LABELS)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("CrossEntropy", {"label_smoothing": 1.0}),
        ("CrossEntropy", {"label_smoothing": -0.1}),
        ("BinaryCrossEntropy", {"label_smoothing": 1.5}),
        ("BinaryCrossEntropy", {"target_threshold": 1.0}),
    ],
)
def test_impossible_settings_raise(kind, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        build(kind, **arguments)


def test_soft_labels_are_timms():
    from timm.data.mixup import mixup_target

    torch.testing.assert_close(soft_labels(LABELS, 5, 0.1), mixup_target(LABELS, 5, 1.0, 0.1))
