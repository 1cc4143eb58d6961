"""Classification losses. They compute in float32 for logits of any dtype, and average over the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..registry import MODELS


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be >= 0 and < 1, got {label_smoothing!r}.")


def soft_labels(label: torch.Tensor, num_classes: int, smoothing: float = 0.0) -> torch.Tensor:
    """Converts labels to smoothed distributions: `smoothing` is divided equally among all classes.

    Args:
        label: (B,) int64.
        num_classes: Number of classes.
        smoothing: Label smoothing, >= 0 and < 1.

    Returns:
        (B, num_classes) float32.
    """
    off = smoothing / num_classes
    target = torch.full((label.shape[0], num_classes), off, dtype=torch.float32, device=label.device)
    return target.scatter_(1, label.view(-1, 1), 1.0 - smoothing + off)


@MODELS.register_module()
class CrossEntropy(nn.Module):
    """Cross entropy with labels or with distributions, as mixing returns them.

    Args:
        label_smoothing: Smoothing of labels. Distributions are not smoothed; mixing does that itself.

    Raises:
        ValueError: The smoothing is out of range.
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
            target: Labels (B,) int64 or distributions (B, classes).

        Returns:
            A scalar.
        """
        smoothing = self.label_smoothing if target.ndim == 1 else 0.0
        return F.cross_entropy(logits.float(), target, label_smoothing=smoothing)


@MODELS.register_module()
class SoftTargetCrossEntropy(nn.Module):
    """Cross entropy with distributions only. Labels raise an error, because the recipe lacks its mixing then."""

    independent_classes = False

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, classes).
            target: Distributions (B, classes).

        Returns:
            A scalar.

        Raises:
            ValueError: The targets are labels.
        """
        if target.shape != logits.shape:
            raise ValueError(
                "SoftTargetCrossEntropy needs distributions, which `mixing` returns. Use CrossEntropy for labels."
            )
        return -(target * F.log_softmax(logits.float(), dim=-1)).sum(-1).mean()


@MODELS.register_module()
class BinaryCrossEntropy(nn.Module):
    """Binary cross entropy of every class (Wightman et al., "ResNet strikes back", 2021, section 2.2), as in timm.

    Args:
        label_smoothing: Smoothing of labels. Distributions are not smoothed.
        target_threshold: If given, targets above it become 1 and others 0, so that both labels of a mixed image count
            fully.
        sum_classes: Sum over classes instead of averaging.

    Raises:
        ValueError: The smoothing or the threshold is out of range.
    """

    independent_classes = True

    def __init__(
        self, label_smoothing: float = 0.0, target_threshold: float | None = None, sum_classes: bool = False
    ) -> None:
        super().__init__()
        _check_smoothing(label_smoothing)
        if target_threshold is not None and not 0 <= target_threshold < 1:
            raise ValueError(f"target_threshold must be >= 0 and < 1, got {target_threshold!r}.")
        self.label_smoothing = label_smoothing
        self.target_threshold = target_threshold
        self.sum_classes = sum_classes

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            logits: (B, classes).
            target: Labels (B,) int64 or distributions (B, classes).

        Returns:
            A scalar.
        """
        if target.ndim == 1:
            target = soft_labels(target, logits.shape[-1], self.label_smoothing)
        if self.target_threshold is not None:
            target = (target > self.target_threshold).float()
        loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
        return loss.sum(-1).mean() if self.sum_classes else loss.mean()
