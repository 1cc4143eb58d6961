"""Cross entropy and accuracy over pixels, with an ignored label."""

from __future__ import annotations

import torch
import torch.nn.functional as F

IGNORE_INDEX = 255
"""Label of ignored pixels, in data sets, losses and metrics."""

_EPS = torch.finfo(torch.float32).eps
"""Added to divisors, as in OpenMMLab, so that the loss is 0 without labeled pixels."""


def check_labels(label_map: torch.Tensor, num_classes: int, ignore_index: int, name: str = "A label map") -> None:
    """Raises a ValueError if a label is neither a class nor ignored.

    Args:
        label_map: Integers of any shape. Call this before moving labels to a GPU, where it requires a synchronization.
        num_classes: Number of classes; labels are 0 to num_classes - 1.
        ignore_index: Label of pixels that are ignored.
        name: Name of the label map in the error message.
    """
    wrong = ((label_map < 0) | (label_map >= num_classes)) & (label_map != ignore_index)
    if wrong.any():
        found = label_map[wrong].unique().tolist()
        values = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise ValueError(
            f"{name} contains {values}, but labels must be 0 to {num_classes - 1} (num_classes={num_classes}) or "
            f"{ignore_index} (ignored). Check num_classes, and set reduce_zero_label=True if labels start at 1, as in "
            "ADE20K's files."
        )


def pixel_cross_entropy(
    logits: torch.Tensor,
    label_maps: torch.Tensor,
    ignore_index: int = IGNORE_INDEX,
    class_weight: torch.Tensor | None = None,
    avg_non_ignore: bool = False,
) -> torch.Tensor:
    """Computes the mean cross entropy over pixels.

    Args:
        logits: (B, classes, H, W).
        label_maps: (B, H, W) int64.
        ignore_index: Label of pixels that are ignored.
        class_weight: (classes,) weight of each class. None for 1.
        avg_non_ignore: Divide by the total weight of labeled pixels. Otherwise ignored pixels count with weight 1 in
            the divisor: the mean is over the entire area and grows with the labeled share.

    Returns:
        A scalar; 0 if all pixels are ignored.
    """
    losses = F.cross_entropy(logits, label_maps, class_weight, ignore_index=ignore_index, reduction="none")
    counted = label_maps != ignore_index
    if class_weight is None:
        divisor = counted.sum() if avg_non_ignore else losses.numel()
    else:
        weights = class_weight[torch.where(counted, label_maps, 0)]
        divisor = torch.where(counted, weights, 0.0 if avg_non_ignore else 1.0).sum()
    return losses.sum() / (divisor + _EPS)


@torch.no_grad()
def pixel_accuracy(logits: torch.Tensor, label_maps: torch.Tensor, ignore_index: int = IGNORE_INDEX) -> torch.Tensor:
    """Computes the percentage of correct pixels among those that are not ignored.

    Args:
        logits: (B, classes, H, W).
        label_maps: (B, H, W) int64.
        ignore_index: Label of pixels that are ignored.

    Returns:
        A scalar; 0 if all pixels are ignored.
    """
    counted = label_maps != ignore_index
    correct = (logits.argmax(1) == label_maps) & counted
    return correct.sum() * (100.0 / (counted.sum() + _EPS))
