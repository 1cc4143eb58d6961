"""Conversion between full-image masks and low-resolution masks of boxes: pasting and training targets.

He et al. 2017, "Mask R-CNN", section 3. Both directions equal OpenMMLab's bit for bit on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

_PASTE_CHUNK = 32 * 2**20
"""Mask pixels pasted at once outside of CPUs: 12 bytes each, for positions and values."""

_TARGET_CHUNK = 16 * 2**20
"""Ground-truth mask pixels converted to float32 at once."""


def paste_masks(
    probabilities: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float = 0.5
) -> torch.Tensor:
    """Resizes low-resolution masks to their boxes and thresholds them.

    Pixel centers are sampled bilinearly from the low-resolution mask, with zeros outside of it. A box without width or
    height has no pixels (there, OpenMMLab's results differ between CPU and GPU).

    Args:
        probabilities: (n, s, s), in [0, 1].
        boxes: (n, 4), (x1, y1, x2, y2) in pixels of the result; they may extend beyond it.
        size: (height, width) of the result.
        threshold: Probability, positive, from which a pixel belongs to the mask.

    Returns:
        (n, height, width) bool.
    """
    assert threshold > 0, "pixels outside of a box would belong to its mask"
    maps, boxes = probabilities.float()[:, None], boxes.float()
    if boxes.device.type != "cpu":
        return _paste_dense(maps, boxes, size, threshold)
    pasted = torch.zeros(len(boxes), *size, dtype=torch.bool)
    # One box at a time, restricted to its pixels.
    for row, (x1, y1, x2, y2) in enumerate(_pixel_bounds(boxes, size)):
        if x1 < x2 and y1 < y2:
            one = slice(row, row + 1)
            pasted[row, y1:y2, x1:x2] = _sample(maps[one], boxes[one], (x1, y1, x2, y2))[0] >= threshold
    return pasted


def _paste_dense(maps: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Pastes masks (n, 1, s, s) by sampling every pixel of the image, several boxes at once."""
    height, width = size
    at_once = max(1, _PASTE_CHUNK // max(1, height * width))
    chunks = [
        _sample(*one, (0, 0, width, height)) >= threshold
        for one in zip(maps.split(at_once), boxes.split(at_once), strict=True)
    ]
    return torch.cat(chunks) & ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))[:, None, None]


def _pixel_bounds(boxes: torch.Tensor, size: tuple[int, int]) -> list[list[int]]:
    """Returns each box's pixel bounds (x1, y1, x2, y2), with a margin for pixels at its border."""
    low = boxes[:, :2].floor() - 1
    high = boxes[:, 2:].ceil() + 1
    limit = boxes.new_tensor([size[1], size[0]])
    areas = torch.cat([low.clamp_min(0), torch.minimum(high, limit)], 1)
    empty = ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return areas.masked_fill(empty[:, None], 0).int().tolist()


def _sample(maps: torch.Tensor, boxes: torch.Tensor, area: tuple[int, int, int, int]) -> torch.Tensor:
    """Samples masks (n, 1, s, s) of boxes at the pixels of a rectangle of the image: (n, height, width)."""
    x1, y1, x2, y2 = area
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    x = (torch.arange(x1, x2, device=boxes.device, dtype=torch.float32) + 0.5 - left) / (right - left) * 2 - 1
    y = (torch.arange(y1, y2, device=boxes.device, dtype=torch.float32) + 0.5 - top) / (bottom - top) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], 3)
    return F.grid_sample(maps, grid, align_corners=False)[:, 0]


def mask_targets(masks: torch.Tensor, boxes: torch.Tensor, indices: torch.Tensor, size: int) -> torch.Tensor:
    """Samples ground-truth masks inside boxes: the training targets of the mask head.

    Args:
        masks: (g, height, width) of 0 and 1.
        boxes: (n, 4), (x1, y1, x2, y2) in pixels of the masks; clipped to them.
        indices: (n,) int64 index of each box's mask.
        size: Height and width of a target.

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
    at_once = max(1, _TARGET_CHUNK // max(1, height * width))
    for first in range(0, len(used), at_once):
        some = masks[used[first : first + at_once], None].to(boxes.dtype)
        rows = ((places >= first) & (places < first + len(some))).nonzero().squeeze(1)
        rois = torch.cat([(places[rows] - first)[:, None].to(boxes.dtype), boxes[rows]], 1)
        targets[rows] = roi_align(some, rois, size, 1.0, 0, aligned=True)[:, 0]
    return (targets >= 0.5).to(boxes.dtype)
