"""What is trained on: cross entropy over pixels, some of which do not count; and the share of right ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F

IGNORE_INDEX = 255
"""Label of pixels that count neither in losses nor in metrics, in data sets, tasks and evaluations alike."""

_EPS = torch.finfo(torch.float32).eps
"""Added to divisors, as OpenMMLab has it: a loss without a pixel that counts is 0."""


def check_labels(label_map: torch.Tensor, num_classes: int, ignore_index: int, name: str = "A label map") -> None:
    """Raises a ValueError where a label is neither a class nor ignored.

    Args:
        label_map: integers of any shape. On a GPU the answer would have to be waited for: call it before labels go
            there.
        num_classes: labels are 0 to num_classes - 1.
        ignore_index: the label of pixels that do not count.
        name: of the label map, for the message.
    """
    wrong = ((label_map < 0) | (label_map >= num_classes)) & (label_map != ignore_index)
    if wrong.any():
        found = label_map[wrong].unique().tolist()
        values = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise ValueError(
            f"{name} holds {values}: with num_classes={num_classes} labels are 0 to {num_classes - 1}, and "
            f"{ignore_index} where a pixel does not count. Is num_classes right, and is 0 a class (ADE20K's files "
            "count from 1: reduce_zero_label)?"
        )


def pixel_cross_entropy(
    logits: torch.Tensor,
    label_maps: torch.Tensor,
    ignore_index: int = IGNORE_INDEX,
    class_weight: torch.Tensor | None = None,
    avg_non_ignore: bool = False,
) -> torch.Tensor:
    """Computes the mean cross entropy of pixels.

    Args:
        logits: (B, classes, H, W).
        label_maps: (B, H, W) int64.
        ignore_index: the label of pixels that do not count.
        class_weight: (classes,): what a pixel of each class counts for. None for 1.
        avg_non_ignore: divide by what the counted pixels weigh. Otherwise ignored pixels weigh 1 in the divisor, though
            they add nothing to the sum: the mean is over the whole area, and grows with the share that is labelled.

    Returns:
        A scalar; 0 where all pixels are ignored.
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
    """Computes the share of right pixels among those that count, in percent.

    Args:
        logits: (B, classes, H, W).
        label_maps: (B, H, W) int64.
        ignore_index: the label of pixels that do not count.

    Returns:
        A scalar; 0 where all pixels are ignored.
    """
    counted = label_maps != ignore_index
    right = (logits.argmax(1) == label_maps) & counted
    return right.sum() * (100.0 / (counted.sum() + _EPS))
