"""Small RoI heads, with feature maps, proposals and objects for two images of different sizes."""

from __future__ import annotations

from typing import Any

import torch

from attnzoo.heads.roi import CascadeRoIHead, StandardRoIHead
from attnzoo.heads.roi.bbox_head import BBoxHead
from attnzoo.heads.structures import Detections, ImageInfo, Instances

SMALL_BOX: dict[str, Any] = {
    "fc_channels": 16,
    "num_shared_convs": 1,
    "conv_channels": 8,
    "num_shared_fcs": 1,
    "norm": "BN",
}
SMALL_MASK: dict[str, Any] = {"num_convs": 1, "conv_channels": 8}
KINDS = (StandardRoIHead, CascadeRoIHead)


def small_head(kind: Any = StandardRoIHead, **changes: Any) -> Any:
    """Builds a head with three classes and 8 input channels, whose predictions have high confidence."""
    torch.manual_seed(0)
    arguments = {"bbox_head": SMALL_BOX, "mask_head": SMALL_MASK, "strides": (4, 8), "mask_size": 14, "num_classes": 3}
    head = kind(in_channels=8, **{**arguments, **changes})
    for module in head.modules():
        if isinstance(module, BBoxHead):
            module.fc_cls.weight.data *= 100
            module.fc_reg.weight.data *= 100
    return head


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([one for name, one in losses.items() if "loss" in name]).sum()


def masks_of(one: Detections | Instances) -> torch.Tensor:
    assert one.masks is not None
    return one.masks


def maps(batch=2, height=64, width=96, channels=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, height // s, width // s, generator=generator) for s in (4, 8, 16)]


def infos():
    return [
        ImageInfo((64, 80), (32, 40), (2.0, 2.0), batch_size=(64, 96)),
        ImageInfo((48, 96), (36, 64), (1.5, 4 / 3), batch_size=(64, 96)),
    ]


def boxes(count, seed=0, size=(48, 80)):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([size[1] - 30.0, size[0] - 30.0])
    return torch.cat([corner, corner + 6 + torch.rand(count, 2, generator=generator) * 24], 1)


def found(count, seed=0):
    one = boxes(count, seed)
    return Detections(one, one.new_ones(count), torch.zeros(count, dtype=torch.int64))


def objects(count, seed=1):
    one = boxes(count, seed)
    rectangles = torch.zeros(count, 64, 96, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(rectangles, one.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return Instances(one, torch.arange(count) % 3, rectangles)
