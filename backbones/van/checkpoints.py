"""Conversion of published checkpoints to the model's own names.

Forms: the official files for classification and segmentation, OpenMMLab's (mmpretrain; mmsegmentation has the official
names), and transformers' port (model `van`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..common.checkpoints import strip_prefixes

if TYPE_CHECKING:
    from .model import VAN

_TRANSFORMERS = (
    (r"^van\.", ""),
    (r"^encoder\.stages\.(\d+)\.embeddings\.convolution\.", r"stages.\1.downsample.proj."),
    (r"^encoder\.stages\.(\d+)\.embeddings\.normalization\.", r"stages.\1.downsample.norm."),
    (r"^encoder\.stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
    (r"^encoder\.stages\.(\d+)\.normalization\.", r"stages.\1.norm."),
    (r"\.pre_normomalization\.", ".norm1."),
    (r"\.post_normalization\.", ".norm2."),
    (r"\.attention\.pre_projection\.conv\.", ".attn.proj_1."),
    (r"\.attention\.attention_layer\.attention\.depth_wise\.", ".attn.conv0."),
    (r"\.attention\.attention_layer\.attention\.depth_wise_dilated\.", ".attn.conv_spatial."),
    (r"\.attention\.attention_layer\.attention\.point_wise\.", ".attn.conv1."),
    (r"\.attention\.post_projection\.", ".attn.proj_2."),
    (r"\.attention_scaling\.weight$", ".ls1.gamma"),
    (r"\.mlp_scaling\.weight$", ".ls2.gamma"),
    (r"\.mlp\.in_dense\.", ".mlp.fc1."),
    (r"\.mlp\.depth_wise\.", ".mlp.dwconv."),
    (r"\.mlp\.out_dense\.", ".mlp.fc2."),
    (r"^stages\.0\.downsample\.", "stem."),
    (r"^classifier\.", "head.fc."),
)
_OFFICIAL_AND_OPENMMLAB = (
    (r"\.projection\.", ".proj."),
    (r"^patch_embed1\.", "stem."),
    (r"^patch_embed(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.downsample."),
    (r"^blocks?(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks."),
    (r"^norm(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.norm."),
    (r"\.layer_scale_([12])$", r".ls\1.gamma"),
    (r"\.spatial_gating_unit\.", "."),
    (r"\.DW_conv\.", ".conv0."),
    (r"\.DW_D_conv\.", ".conv_spatial."),
    (r"\.dwconv\.dwconv\.", ".dwconv."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
_UNUSED = re.compile(r"^(?:van\.)?layernorm\.")
"""A norm that transformers' model has but never applies."""


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: VAN) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of any published form to the model's names; the model's own names pass unchanged.

    Unknown names are kept, for strict loading to report.

    Args:
        state_dict: Tensors by name; prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed.
        model: Model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in strip_prefixes(state_dict).items():
        if _UNUSED.search(name):
            continue
        for pattern, replacement in (*_TRANSFORMERS, *_OFFICIAL_AND_OPENMMLAB):
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
