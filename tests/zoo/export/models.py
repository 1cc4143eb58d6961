"""Small models of every family and of every kind of task, to export."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnzoo import create_model
from attnzoo.zoo.registry import MODELS
from support.slow import slow_except

# The smallest model of each family that has its attention, and its image size in pixels.
TINY: dict[str, tuple[str, dict[str, Any], int]] = {
    "agent": ("agent_deit_tiny", {"embed_dim": 24, "depths": (1, 1, 1, 1), "agent_blocks": (1, 1, 1, 1),
                                  "num_agents": (4, 4, 4, 4), "img_size": 64}, 64),
    "biformer": ("biformer_tiny", {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2), "topks": (1, 2),
                                   "num_regions": 2}, 32),
    "davit": ("davit_tiny", {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2), "window_size": 3}, 32),
    "eca": ("eca_resnet18", {"depths": (1, 1), "planes": (8, 16), "k_size": 3}, 32),
    "halonet": ("halonet26t", {"blocks": ("ch", "h"), "embed_dims": (32, 64), "hidden_dims": (8, 16),
                               "num_heads": (2, 2), "block_size": 4, "halo_size": 1}, 32),
    "metaformer": ("metaformer_micro", {"depths": (1, 1), "embed_dims": (32, 64)}, 32),
    "nat": ("dinat_mini", {"depths": (1, 2), "embed_dims": (16, 32), "num_heads": (1, 2), "kernel_size": 3,
                           "dilations": ((1,), (1, 2))}, 32),
    "van": ("van_b0", {"depths": (1, 1), "embed_dims": (8, 16), "mlp_ratios": (2, 2)}, 32),
}  # fmt: skip


def tiny(family: str, **kwargs: Any) -> nn.Module:
    """Builds the small model of a family, in evaluation mode."""
    name, arguments, _ = TINY[family]
    torch.manual_seed(0)
    return create_model(name, **{"num_classes": 5, **arguments, **kwargs}).eval()


SLOW_TO_CONVERT = ("agent", "biformer", "davit", "halonet", "nat")


def on_meta(name: str, **kwargs: Any) -> Any:
    """Builds a model without memory for its weights."""
    with torch.device("meta"):
        return create_model(name, **kwargs).eval()


def families(*names: str, slow: tuple[str, ...] = SLOW_TO_CONVERT) -> list[Any]:
    """Marks the slow ones among names of families or tasks."""
    return slow_except(names, set(names) - set(slow))


def session(path: Path) -> Any:
    """Opens an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


BODY = {"type": "metaformer_micro", "features_only": True, "depths": (1, 1), "embed_dims": (32, 64), "stem_stride": 4}
NECK = {"type": "FPN", "out_channels": 16, "num_outs": 2}
DENSE: dict[str, dict[str, Any]] = {
    "semantic_fpn": {
        "type": "Segmentor",
        "backbone": BODY,
        "neck": NECK,
        "decode_head": {"type": "FPNHead", "in_index": (0, 1), "feature_strides": (4, 8), "channels": 8,
                        "num_classes": 3},
    },
    "upernet": {
        "type": "Segmentor",
        "backbone": BODY,
        "decode_head": {"type": "UPerHead", "in_index": (0, 1), "pool_scales": (1, 2), "channels": 8,
                        "num_classes": 3},
        "auxiliary_head": {"type": "FCNHead", "in_index": 1, "channels": 8, "num_convs": 1, "concat_input": False,
                           "num_classes": 3},
    },
    "retinanet": {
        "type": "SingleStageDetector",
        "backbone": BODY,
        "neck": {**NECK, "num_outs": 3, "add_extra_convs": "on_input"},
        "bbox_head": {"type": "RetinaHead", "num_classes": 3, "in_channels": 16, "feat_channels": 16,
                      "stacked_convs": 1, "anchor_generator": {"strides": (4, 8, 16)}},
    },
}  # fmt: skip
MASK_RCNN = {
    "type": "TwoStageDetector",
    "backbone": BODY,
    "neck": NECK,
    "rpn_head": {"type": "RPNHead", "in_channels": 16, "feat_channels": 16,
                 "anchor_generator": {"strides": (4, 8), "scales": (4,)}},
    "roi_head": {"type": "StandardRoIHead", "num_classes": 3, "in_channels": 16, "strides": (4, 8),
                 "bbox_head": {"fc_channels": 24}},
}  # fmt: skip


def build_task(config: dict[str, Any]) -> Any:
    """Builds a task in evaluation mode, with statistics of BatchNorm that are not the initial ones."""
    torch.manual_seed(0)
    task = MODELS.build(copy.deepcopy(config)).eval()
    for module in task.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
    return task
