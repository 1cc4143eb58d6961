"""Masks of boxes: from a small map to the image, and from the image's true masks to small targets.

He et al. 2017, "Mask R-CNN", section 3. Both ways are OpenMMLab's, bit for bit on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

_PASTED_AT_ONCE = 32 * 2**20
"""Pixels of masks that are pasted at once beside a CPU: 12 bytes each, for their positions and values."""

_MASKS_AT_ONCE = 16 * 2**20
"""Pixels of true masks that are float32 at once."""


def paste_masks(
    probabilities: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float = 0.5
) -> torch.Tensor:
    """Stretches small masks over their boxes, and cuts them at a threshold.

    Pixel centres are sampled bilinearly from the small mask, with zeros around it. A box without width or height has
    no pixels (OpenMMLab's results differ there between a CPU and a GPU).

    Args:
        probabilities: (n, s, s), 0 to 1.
        boxes: (n, 4), x1, y1, x2, y2 in pixels of the result; they may reach beyond it.
        size: (height, width) of the result.
        threshold: from which probability on a pixel belongs to the mask, over 0.

    Returns:
        (n, height, width) bool.
    """
    assert threshold > 0, "what lies outside of a box would belong to its mask"
    maps, boxes = probabilities.float()[:, None], boxes.float()
    if boxes.device.type != "cpu":
        return _paste_whole(maps, boxes, size, threshold)
    pasted = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for row, (x1, y1, x2, y2) in enumerate(_areas(boxes, size)):  # one box at a time, and no pixel outside of it
        if x1 < x2 and y1 < y2:
            one = slice(row, row + 1)
            pasted[row, y1:y2, x1:x2] = _sample(maps[one], boxes[one], (x1, y1, x2, y2))[0] >= threshold
    return pasted


def _paste_whole(maps: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Pastes maps (n, 1, s, s) by sampling every pixel of the image, several boxes at once."""
    height, width = size
    at_once = max(1, _PASTED_AT_ONCE // max(1, height * width))
    chunks = [
        _sample(*one, (0, 0, width, height)) >= threshold
        for one in zip(maps.split(at_once), boxes.split(at_once), strict=True)
    ]
    return torch.cat(chunks) & ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))[:, None, None]


def _areas(boxes: torch.Tensor, size: tuple[int, int]) -> list[list[int]]:
    """Gives each box's pixels, with a margin for those that touch its border: x1, y1, x2, y2."""
    low = boxes[:, :2].floor() - 1
    high = boxes[:, 2:].ceil() + 1
    limit = boxes.new_tensor([size[1], size[0]])
    areas = torch.cat([low.clamp_min(0), torch.minimum(high, limit)], 1)
    empty = ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return areas.masked_fill(empty[:, None], 0).int().tolist()


def _sample(maps: torch.Tensor, boxes: torch.Tensor, area: tuple[int, int, int, int]) -> torch.Tensor:
    """Samples maps (n, 1, s, s) over boxes at the pixels of an area of the image: (n, height, width)."""
    x1, y1, x2, y2 = area
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    x = (torch.arange(x1, x2, device=boxes.device, dtype=torch.float32) + 0.5 - left) / (right - left) * 2 - 1
    y = (torch.arange(y1, y2, device=boxes.device, dtype=torch.float32) + 0.5 - top) / (bottom - top) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], 3)
    return F.grid_sample(maps, grid, align_corners=False)[:, 0]


def mask_targets(masks: torch.Tensor, boxes: torch.Tensor, indices: torch.Tensor, size: int) -> torch.Tensor:
    """Samples true masks inside of boxes: what a mask head should predict there.

    Args:
        masks: (g, height, width) of 0 and 1.
        boxes: (n, 4), x1, y1, x2, y2 in pixels of the masks; beyond them they are cut.
        indices: (n,) int64: which mask a box belongs to.
        size: height and width of a target.

    Returns:
        (n, size, size) float32 of 0 and 1.
    """
    height, width = masks.shape[1:]
    boxes = torch.stack(
        [
            boxes[:, 0].clamp(0, width),
            boxes[:, 1].clamp(0, height),
            boxes[:, 2].clamp(0, width),
            boxes[:, 3].clamp(0, height),
        ],
        1,
    )
    targets = boxes.new_empty(len(boxes), size, size)
    used, places = indices.unique(return_inverse=True)
    at_once = max(1, _MASKS_AT_ONCE // max(1, height * width))
    for first in range(0, len(used), at_once):
        some = masks[used[first : first + at_once], None].to(boxes.dtype)
        rows = ((places >= first) & (places < first + len(some))).nonzero().squeeze(1)
        rois = torch.cat([(places[rows] - first)[:, None].to(boxes.dtype), boxes[rows]], 1)
        targets[rows] = roi_align(some, rois, size, 1.0, 0, aligned=True)[:, 0]
    return (targets >= 0.5).to(boxes.dtype)
