"""Config of a small Mask R-CNN with a NAT backbone."""

from __future__ import annotations

NAT = {"depths": (1, 1, 1), "embed_dims": (16, 32, 64), "num_heads": (1, 1, 2), "kernel_size": 3}

MASK_RCNN = {
    "type": "TwoStageDetector",
    "backbone": {"type": "nat_mini", "features_only": True, **NAT},
    "neck": {"type": "FPN", "out_channels": 16, "num_outs": 3},
    "rpn_head": {"type": "RPNHead", "in_channels": 16, "feat_channels": 16,
                 "anchor_generator": {"strides": (4, 8, 16), "scales": (4,)}},
    "roi_head": {"type": "StandardRoIHead", "num_classes": 3, "in_channels": 16, "strides": (4, 8, 16),
                 "bbox_head": {"fc_channels": 24}, "mask_head": {"num_convs": 1, "conv_channels": 8}},
}  # fmt: skip
