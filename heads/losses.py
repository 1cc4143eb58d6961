"""Losses of detection and segmentation heads, reduced as OpenMMLab reduces them.

The loss of each element is multiplied by its weight; the sum is divided by `avg_factor` (plus float32's eps, which
OpenMMLab adds against division by zero), or all are averaged where no factor is given. All compute in float32 whatever
the predictions' type is. An empty prediction gives a loss of 0 and gradients of 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .boxes import box_iou

EPS = torch.finfo(torch.float32).eps
"""Added to what divides: 1.1920929e-07."""


def weighted_mean(
    loss: torch.Tensor, weight: torch.Tensor | None = None, avg_factor: float | torch.Tensor | None = None
) -> torch.Tensor:
    """Reduces a loss.

    Args:
        loss: of any shape.
        weight: of the same shape, or None.
        avg_factor: what the sum is divided by; None for the number of elements.

    Returns:
        A scalar; 0 where there are no elements.
    """
    if weight is not None:
        loss = loss * weight
    if avg_factor is not None:
        return loss.sum() / (avg_factor + EPS)
    return loss.mean() if loss.numel() else loss.sum()


def cross_entropy(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
    class_weight: torch.Tensor | None = None,
    ignore_index: int = -100,
) -> torch.Tensor:
    """Cross entropy after a softmax over the classes.

    Args:
        pred: (n, classes, ...), logits. Where background is a class it is the last.
        target: (n, ...) int64.
        weight: (n, ...) or None.
        avg_factor: see `weighted_mean`.
        class_weight: (classes,) or None; multiplies the loss of elements of that class, and divides nothing.
        ignore_index: label whose loss is 0. Such elements count all the same where no `avg_factor` is given.

    Returns:
        A scalar.
    """
    pred = pred.float()
    if class_weight is not None:
        class_weight = class_weight.to(pred)
    loss = F.cross_entropy(pred, target, weight=class_weight, reduction="none", ignore_index=ignore_index)
    return weighted_mean(loss, weight, avg_factor)


def one_hot_without_background(target: torch.Tensor, classes: int) -> torch.Tensor:
    """Turns labels (n,), `classes` for background, into (n, classes) bool."""
    return target[:, None] == torch.arange(classes, device=target.device)


def binary_cross_entropy(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross entropy after a sigmoid.

    Args:
        pred: logits of any shape; (n, classes) where labels are given.
        target: 0 to 1 in the shape of `pred`; or (n,) int64 labels, of which `classes` is background.
        weight: (n,) or in the shape of `pred`, or None.
        avg_factor: see `weighted_mean`.

    Returns:
        A scalar.
    """
    pred = pred.float()
    if target.dim() != pred.dim():
        target = one_hot_without_background(target, pred.shape[1])
    if weight is not None and weight.dim() < pred.dim():
        weight = weight.view(-1, *(1,) * (pred.dim() - 1)).expand_as(pred)
    loss = F.binary_cross_entropy_with_logits(pred, target.float(), reduction="none")
    return weighted_mean(loss, weight, avg_factor)


def mask_cross_entropy(pred: torch.Tensor, target: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of each object's mask in the channel of its class, averaged over all pixels.

    Args:
        pred: (n, classes, height, width), logits.
        target: (n, height, width), 0 to 1.
        label: (n,) int64.

    Returns:
        A scalar.
    """
    own = pred[torch.arange(len(pred), device=pred.device), label]
    return binary_cross_entropy(own, target)


def sigmoid_focal_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> torch.Tensor:
    """Focal loss: binary cross entropy in which what is already right counts little.

    Lin et al., ICCV 2017 (arXiv:1708.02002), section 3.

    Args:
        pred: (n, classes), logits.
        target: (n,) int64; `classes` is background.
        weight: (n,) or None.
        avg_factor: see `weighted_mean`.
        gamma: power of the part that is still wrong.
        alpha: weight of the true class; 1 - alpha that of others.

    Returns:
        A scalar.
    """
    pred = pred.float()
    true = one_hot_without_background(target, pred.shape[1])
    wrong = torch.where(true, -pred, pred)  # the logit of the wrong answer
    balance = torch.where(true, alpha, 1 - alpha)
    loss = F.softplus(wrong) * wrong.sigmoid().pow(gamma) * balance
    return weighted_mean(loss, None if weight is None else weight[:, None], avg_factor)


def l1_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Absolute difference; all in one shape, reduced by `weighted_mean`."""
    return weighted_mean((pred.float() - target).abs(), weight, avg_factor)


def smooth_l1_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
    beta: float = 1.0,
) -> torch.Tensor:
    """Absolute difference, squared over 2 * beta below beta; all in one shape, reduced by `weighted_mean`.

    Girshick, "Fast R-CNN", ICCV 2015 (arXiv:1504.08083), section 2.3.
    """
    return weighted_mean(F.smooth_l1_loss(pred.float(), target, reduction="none", beta=beta), weight, avg_factor)


def giou_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
    eps: float = 1e-6,
) -> torch.Tensor:
    """One minus the generalised intersection over union of pairs of boxes.

    Rezatofighi et al., CVPR 2019 (arXiv:1902.09630).

    Args:
        pred: (n, 4), boxes.
        target: (n, 4), boxes.
        weight: (n,) or (n, 4), of which the mean is taken, or None.
        avg_factor: see `weighted_mean`.
        eps: areas that divide are at least this.

    Returns:
        A scalar.
    """
    if weight is not None and weight.dim() > 1:
        weight = weight.mean(dim=-1)
    return weighted_mean(1 - box_iou(pred.float(), target, "giou", aligned=True, eps=eps), weight, avg_factor)
