"""Cross entropy and accuracy over pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.heads.segmentation.pixel_losses import pixel_accuracy, pixel_cross_entropy
from support.segmentors import build, maps, random_labels


def test_losses_are_means_of_torchs_cross_entropy():
    logits = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = random_labels((2, 7, 9))
    counted = int((labels != 255).sum())
    assert 0 < counted < labels.numel()
    mean = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, avg_non_ignore=True), mean)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels), mean * counted / labels.numel())
    right = (logits.argmax(1) == labels)[labels != 255].float().mean() * 100
    torch.testing.assert_close(pixel_accuracy(logits, labels), right)


def test_class_weights_scale_the_sum_and_the_divisor():
    logits = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    labels = random_labels((2, 7, 9))
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0])
    counted = labels != 255
    weighted = F.cross_entropy(logits, labels, weight, ignore_index=255)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, 255, weight, avg_non_ignore=True), weighted)
    total = weight[labels[counted]].sum()
    expected = weighted * total / (total + (~counted).sum())
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, 255, weight), expected)
    ones = torch.ones(5)
    for average in (False, True):
        plain = pixel_cross_entropy(logits, labels, avg_non_ignore=average)
        torch.testing.assert_close(pixel_cross_entropy(logits, labels, 255, ones, average), plain)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0] * 5])
def test_a_batch_without_labeled_pixels_has_no_gradient(average: bool, weights: list[float] | None):
    head = build("uper", avg_non_ignore=average, class_weight=weights)
    losses = head.losses(maps(), torch.full((2, 64, 96), 255))
    assert losses["loss_ce"].item() == losses["acc_seg"].item() == 0
    losses["loss_ce"].backward()
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


@pytest.mark.parametrize("wrong", [5, 254, -1])
def test_labels_out_of_range_raise(wrong: int):
    labels = random_labels((2, 16, 24))
    labels[1, 3, 4] = wrong
    with pytest.raises(
        ValueError, match=rf"contains {wrong}, but labels must be 0 to 4 \(num_classes=5\) or 255 \(ignored\)"
    ):
        build("fpn").losses(maps(), labels)
