"""Losses of detection and segmentation heads, reduced as OpenMMLab reduces them.

The loss of each element is multiplied by its weight. The sum is divided by `avg_factor` (plus float32's eps, which
OpenMMLab adds against division by zero); without `avg_factor` the mean over all elements is taken. All losses compute
in float32 regardless of the predictions' dtype. Empty predictions have a loss of 0 and gradients of 0.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from .boxes import box_iou

EPS = torch.finfo(torch.float32).eps
"""Added to divisors: 1.1920929e-07."""

CHUNK = 1 << 24
"""Number of focal-loss elements computed at once: 64 MiB in float32."""

CPU_CHUNK = 1 << 18
"""Number of focal-loss elements computed at once on a CPU: few enough to stay in its cache."""


def weighted_mean(
    loss: torch.Tensor, weight: torch.Tensor | None = None, avg_factor: float | torch.Tensor | None = None
) -> torch.Tensor:
    """Reduces an elementwise loss to a scalar.

    Args:
        loss: Loss of each element, any shape.
        weight: Weight of each element, in the same shape, or None.
        avg_factor: Divisor of the sum; None for the number of elements.

    Returns:
        A scalar; 0 if there are no elements.
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
        pred: (n, classes, ...) logits. The background class, if there is one, is the last.
        target: (n, ...) int64.
        weight: (n, ...) or None.
        avg_factor: As in `weighted_mean`.
        class_weight: (classes,) or None. Scales the loss of elements of each class, but not the divisor.
        ignore_index: Label whose loss is 0. Such elements still count in the divisor if `avg_factor` is None.

    Returns:
        A scalar.
    """
    pred = pred.float()
    if class_weight is not None:
        class_weight = class_weight.to(pred)
    loss = F.cross_entropy(pred, target, weight=class_weight, reduction="none", ignore_index=ignore_index)
    return weighted_mean(loss, weight, avg_factor)


def one_hot_without_background(target: torch.Tensor, classes: int) -> torch.Tensor:
    """Converts labels (n,), in which `classes` is background, to (n, classes) bool."""
    return target[:, None] == torch.arange(classes, device=target.device)


def binary_cross_entropy(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross entropy after a sigmoid.

    Args:
        pred: Logits of any shape; (n, classes) if `target` holds labels.
        target: Targets in [0, 1] in the shape of `pred`, or (n,) int64 labels in which `classes` is background.
        weight: (n,) or in the shape of `pred`, or None.
        avg_factor: As in `weighted_mean`.

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
    """Mean binary cross entropy of each object's mask, in the channel of its class.

    Args:
        pred: (n, classes, height, width) logits.
        target: (n, height, width), in [0, 1].
        label: (n,) int64.

    Returns:
        A scalar.
    """
    logits = pred[torch.arange(len(pred), device=pred.device), label]
    return binary_cross_entropy(logits, target)


def sigmoid_focal_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> torch.Tensor:
    """Focal loss: binary cross entropy that down-weights well-classified elements.

    Lin et al., ICCV 2017 (arXiv:1708.02002), section 3.

    Args:
        pred: (n, classes) logits.
        target: (n,) int64; the label `classes` is background.
        weight: (n,) or None.
        avg_factor: As in `weighted_mean`.
        gamma: Focusing parameter.
        alpha: Weight of the target class; other classes have 1 - alpha.

    Returns:
        A scalar.
    """
    if weight is None:
        weight = torch.ones(len(pred), device=pred.device)
    total = _FocalSum.apply(pred, target, weight.float(), gamma, alpha)
    return total / (max(pred.numel(), 1) if avg_factor is None else avg_factor + EPS)


class _FocalSum(torch.autograd.Function):
    """Weighted sum of the focal loss over all elements.

    A few images have tens of millions of elements, and automatic differentiation would store five tensors of that size.
    This function stores the logits alone and computes in chunks of rows.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (torch's is general)
        ctx: Any, pred: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, gamma: float, alpha: float
    ) -> torch.Tensor:
        ctx.save_for_backward(pred, target, weight)
        ctx.gamma, ctx.alpha = gamma, alpha
        total = torch.zeros((), device=pred.device)
        for rows in _row_chunks(pred):
            wrong, _, balance = _FocalSum.parts(pred[rows], target[rows], weight[rows], alpha)
            total += (F.softplus(wrong) * wrong.sigmoid().pow_(gamma) * balance).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        pred, target, weight = ctx.saved_tensors
        grad = torch.empty_like(pred)
        for rows in _row_chunks(pred):
            wrong, sign, balance = _FocalSum.parts(pred[rows], target[rows], weight[rows], ctx.alpha)
            part = wrong.sigmoid()
            slope = part.pow(ctx.gamma) * (ctx.gamma * (1 - part) * F.softplus(wrong) + part)
            grad[rows] = (slope * balance * sign * grad_outputs[0]).to(grad.dtype)
        return grad, None, None, None, None

    @staticmethod
    def parts(
        pred: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, alpha: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the logits of the wrong answers, their sign in the prediction, and the weights: (rows, classes)."""
        true = one_hot_without_background(target, pred.shape[1])
        sign = torch.where(true, -1.0, 1.0)
        balance = torch.where(true, alpha, 1 - alpha)
        return pred.float() * sign, sign, balance.mul_(weight[:, None])


def _row_chunks(table: torch.Tensor) -> list[slice]:
    rows = max(1, (CPU_CHUNK if table.device.type == "cpu" else CHUNK) // max(1, table.shape[1]))
    return [slice(first, first + rows) for first in range(0, len(table), rows)]


def l1_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """L1 loss; all arguments in one shape, reduced by `weighted_mean`."""
    return weighted_mean((pred.float() - target).abs(), weight, avg_factor)


def smooth_l1_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    avg_factor: float | torch.Tensor | None = None,
    beta: float = 1.0,
) -> torch.Tensor:
    """Smooth L1 loss, quadratic below `beta`; all arguments in one shape, reduced by `weighted_mean`.

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
    """GIoU loss: one minus the generalized intersection over union of pairs of boxes.

    Rezatofighi et al., CVPR 2019 (arXiv:1902.09630).

    Args:
        pred: (n, 4) boxes.
        target: (n, 4) boxes.
        weight: (n,), or (n, 4) which is averaged over the coordinates, or None.
        avg_factor: As in `weighted_mean`.
        eps: Lower bound of divisors.

    Returns:
        A scalar.
    """
    if weight is not None and weight.dim() > 1:
        weight = weight.mean(dim=-1)
    return weighted_mean(1 - box_iou(pred.float(), target, "giou", aligned=True, eps=eps), weight, avg_factor)
