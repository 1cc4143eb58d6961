"""Region features: assignment of regions to pyramid levels, and RoIAlign.

Lin et al. 2017, "Feature Pyramid Networks for Object Detection", equation 1; He et al. 2017, "Mask R-CNN", section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import roi_align


def boxes_to_rois(boxes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenates the boxes of a batch.

    Args:
        boxes: Boxes of each image, (n, 4) as (x1, y1, x2, y2) in pixels.

    Returns:
        (sum of n, 5): index of the image in the batch, then the box.
    """
    return torch.cat([torch.cat([one.new_full((len(one), 1), index), one], 1) for index, one in enumerate(boxes)])


def roi_levels(rois: torch.Tensor, num_levels: int, finest_scale: float = 56.0) -> torch.Tensor:
    """Returns the pyramid level of each region.

    Regions with a side (square root of the area) below twice `finest_scale` belong to the finest level; each doubling
    of the side moves a region up by one level.

    Args:
        rois: (n, 5), image index and box in pixels.
        num_levels: Number of levels.
        finest_scale: Scale in pixels.

    Returns:
        (n,) int64, 0 for the finest level.
    """
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
    # The epsilon is inside the logarithm, as in OpenMMLab: sides of exactly 112, 224, ... depend on it.
    level = (side / finest_scale + 1e-6).log2().floor()
    return level.nan_to_num(0).clamp(0, num_levels - 1).long()  # a diverged model predicts NaN boxes


def extract_rois(
    features: Sequence[torch.Tensor],
    rois: torch.Tensor,
    strides: Sequence[int],
    output_size: int,
    sampling_ratio: int = 0,
    finest_scale: float = 56.0,
) -> torch.Tensor:
    """Samples each region from the feature map of its level with RoIAlign.

    All feature maps take part in the graph, even without regions, because distributed training waits for all gradients.

    Args:
        features: Feature maps (B, C, H, W), finest first; those beyond `strides` are ignored.
        rois: (n, 5), image index and box in pixels.
        strides: Strides of the feature maps that are used.
        output_size: Height and width of the region features.
        sampling_ratio: Samples per bin and axis; 0 adapts the number to the size of the bin.
        finest_scale: As in `roi_levels`.

    Returns:
        (n, C, output_size, output_size) in the order of `rois` and the dtype of the feature maps.
    """
    levels = roi_levels(rois, len(strides), finest_scale)
    order = [(levels == level).nonzero().squeeze(1) for level in range(len(strides))]
    sampled = torch.cat(
        [
            # In float32: half-precision boxes would be off by several pixels.
            roi_align(feature.float(), rois[rows], output_size, 1 / stride, sampling_ratio, aligned=True)
            for feature, rows, stride in zip(features, order, strides, strict=False)
        ]
    )
    inverse = torch.empty_like(levels)
    inverse[torch.cat(order)] = torch.arange(len(levels), device=levels.device)
    return sampled[inverse].to(features[0].dtype)
