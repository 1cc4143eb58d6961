"""Losses of classification. They compute in float32 whatever the logits' type is, and average over the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..registry import MODELS


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is a fraction from 0 to less than 1, not {label_smoothing!r}.")


def soft_labels(label: torch.Tensor, num_classes: int, smoothing: float = 0.0) -> torch.Tensor:
    """Turns labels into distributions, with an equal share of `smoothing` for every class.

    Args:
        label: (B,) int64.
        num_classes: length of a distribution.
        smoothing: from 0 to less than 1.

    Returns:
        (B, num_classes) float32.
    """
    off = smoothing / num_classes
    target = torch.full((label.shape[0], num_classes), off, dtype=torch.float32, device=label.device)
    return target.scatter_(1, label.view(-1, 1), 1.0 - smoothing + off)


@MODELS.register_module()
class CrossEntropy(nn.Module):
    """Cross entropy with labels, smoothed or not, or with distributions, as mixing makes them.

    Args:
        label_smoothing: for labels; distributions are taken as they are (mixing smooths its own).

    Raises:
        ValueError: the smoothing is not from 0 to less than 1.
    """

    independent_classes = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        _check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, classes).
            target: labels (B,) int64, or distributions (B, classes).

        Returns:
            A scalar.
        """
        smoothing = self.label_smoothing if target.ndim == 1 else 0.0
        return F.cross_entropy(logits.float(), target, label_smoothing=smoothing)


@MODELS.register_module()
class SoftTargetCrossEntropy(nn.Module):
    """Cross entropy with distributions only: refuses labels, so that a recipe that forgot its mixing is found out."""

    independent_classes = False

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, classes).
            target: (B, classes), a distribution each.

        Returns:
            A scalar.

        Raises:
            ValueError: the targets are labels.
        """
        if target.shape != logits.shape:
            raise ValueError(
                "SoftTargetCrossEntropy needs distributions, which `mixing` makes; with labels use CrossEntropy."
            )
        return -(target * F.log_softmax(logits.float(), dim=-1)).sum(-1).mean()


@MODELS.register_module()
class BinaryCrossEntropy(nn.Module):
    """Cross entropy of each class for itself (Wightman et al., ResNet strikes back, 2021, section 2.2), as timm has it.

    Args:
        label_smoothing: for labels; distributions are taken as they are.
        target_threshold: where given, targets above it are 1 and others 0, so that both images of a mixture count
            fully.
        sum_classes: add the classes up rather than average over them.

    Raises:
        ValueError: the smoothing is not from 0 to less than 1, or the threshold is not from 0 to less than 1.
    """

    independent_classes = True

    def __init__(
        self, label_smoothing: float = 0.0, target_threshold: float | None = None, sum_classes: bool = False
    ) -> None:
        super().__init__()
        _check_smoothing(label_smoothing)
        if target_threshold is not None and not 0 <= target_threshold < 1:
            raise ValueError(f"target_threshold is a fraction from 0 to less than 1, not {target_threshold!r}.")
        self.label_smoothing = label_smoothing
        self.target_threshold = target_threshold
        self.sum_classes = sum_classes

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, classes).
            target: labels (B,) int64, or distributions (B, classes).

        Returns:
            A scalar.
        """
        if target.ndim == 1:
            target = soft_labels(target, logits.shape[-1], self.label_smoothing)
        if self.target_threshold is not None:
            target = (target > self.target_threshold).float()
        loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
        return loss.sum(-1).mean() if self.sum_classes else loss.mean()
