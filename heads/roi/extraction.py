"""Features of regions: which map of a pyramid a region reads, and RoIAlign there.

Lin et al. 2017, "Feature Pyramid Networks for Object Detection", equation 1; He et al. 2017, "Mask R-CNN", section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import roi_align


def boxes_to_rois(boxes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Puts the boxes of a batch into one tensor.

    Args:
        boxes: (n, 4) for each image, x1, y1, x2, y2 in pixels.

    Returns:
        (sum of n, 5): the number of the image in the batch, then the box.
    """
    return torch.cat([torch.cat([one.new_full((len(one), 1), number), one], 1) for number, one in enumerate(boxes)])


def roi_levels(rois: torch.Tensor, num_levels: int, finest_scale: float = 56.0) -> torch.Tensor:
    """Tells which map each region reads.

    A region whose side (the root of its area) is below twice `finest_scale` reads the finest map, and each doubling of
    the side moves it one map on.

    Args:
        rois: (n, 5), image and box in pixels.
        num_levels: number of maps.
        finest_scale: pixels.

    Returns:
        (n,) int64, 0 for the finest map.
    """
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
    # The small number stands inside the logarithm, as in OpenMMLab: sides of exactly 112, 224, ... depend on it.
    level = (side / finest_scale + 1e-6).log2().floor()
    return level.nan_to_num(0).clamp(0, num_levels - 1).long()  # a model that diverged has boxes of NaN


def extract_rois(
    features: Sequence[torch.Tensor],
    rois: torch.Tensor,
    strides: Sequence[int],
    output_size: int,
    sampling_ratio: int = 0,
    finest_scale: float = 56.0,
) -> torch.Tensor:
    """Samples each region from the map of its level with RoIAlign.

    Every map takes part in the graph, also one that no region reads: distributed training waits for all gradients.

    Args:
        features: maps (B, C, H, W), finest first; those beyond the strides are not read.
        rois: (n, 5), image and box in pixels.
        strides: pixels to a step of each map that is read.
        output_size: height and width of what is sampled.
        sampling_ratio: samples to an axis of a bin; 0: as many as the bin has steps of the map, rounded up.
        finest_scale: see `roi_levels`.

    Returns:
        (n, C, output_size, output_size), in the order and of the type of the maps.
    """
    levels = roi_levels(rois, len(strides), finest_scale)
    order = [(levels == level).nonzero().squeeze(1) for level in range(len(strides))]
    sampled = torch.cat(
        [
            # In float32 throughout: rois in half precision would be whole pixels off.
            roi_align(feature.float(), rois[rows], output_size, 1 / stride, sampling_ratio, aligned=True)
            for feature, rows, stride in zip(features, order, strides, strict=False)
        ]
    )
    back = torch.empty_like(levels)
    back[torch.cat(order)] = torch.arange(len(levels), device=levels.device)
    return sampled[back].to(features[0].dtype)
