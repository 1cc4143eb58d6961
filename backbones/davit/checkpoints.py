"""Conversion of published checkpoints to the model's own names.

Forms: the official classifiers (`main_blocks.*`), the official backbones for detection and segmentation (the same with
`norm0` to `norm3`), timm's, OpenMMLab's (mmpretrain), and the image encoder of Florence-2 under its official names and
those of transformers' port.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..common.checkpoints import strip_prefixes

if TYPE_CHECKING:
    from .model import DaViT

_TOWER = "vision_tower."
"""Prefix of Florence-2's image encoder."""

_OFFICIAL = (
    (r"^patch_embeds\.(\d+)\.proj\.", r"stages.\1.downsample.conv."),
    (r"^patch_embeds\.(\d+)\.", r"stages.\1.downsample."),
    (r"^main_blocks\.", "stages."),
    (r"\.cpe\.0\.", ".cpe1."),
    (r"\.cpe\.1\.", ".cpe2."),
    (r"^norms\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
_FLORENCE2 = (
    (r"^convs\.(\d+)\.(?:proj|conv)\.", r"stages.\1.downsample.conv."),
    (r"^convs\.(\d+)\.norm\.", r"stages.\1.downsample.norm."),
    (r"^blocks\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.conv([12])\.(?:fn\.dw\.)?(weight|bias)$", r".cpe\1.proj.\2"),
    (r"\.(?:window|channel)_attn\.norm\.", ".norm1."),
    (r"\.(?:window|channel)_attn\.(?:fn\.)?", ".attn."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.(?:fn\.net\.)?fc([12])\.", r".mlp.fc\1."),
)
_OPENMMLAB = (
    (r"\.projection\.", ".conv."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: DaViT) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of any published form to the model's names; the model's own names pass unchanged.

    Unknown names are kept, for strict loading to report. Florence-2's files have no head: if the model has
    no classes, the norm of its head keeps its values.

    Args:
        state_dict: Tensors by name; prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed.
        model: Model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    is_openmmlab = any(re.search(r"(?:^|\.)patch_embed\.projection\.", name) for name in state_dict)
    given = _with_head(state_dict) if is_openmmlab else strip_prefixes(state_dict)
    is_tower = any(name.startswith(_TOWER) for name in given)
    if is_tower:
        given = {name.removeprefix(_TOWER): value for name, value in given.items() if name.startswith(_TOWER)}
    rules = (*_OPENMMLAB, *_OFFICIAL) if is_openmmlab else (*_FLORENCE2, *_OFFICIAL)
    renamed = {}
    for name, value in given.items():
        if is_openmmlab:
            name = re.sub(r"^stages\.(\d+)\.downsample\.", _next_stage, name)
            name = re.sub(r"^patch_embed\.", "stem.", name)
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^stages\.0\.downsample\.", "stem.", name)
        renamed[_flat_block(name, model.attn_types)] = value
    if is_openmmlab:
        renamed = _norm_of_head(renamed, len(model.feature_info))
    if is_tower and not model.num_classes:
        renamed |= {name: value for name, value in model.state_dict().items() if name.startswith("head.norm.")}
    return renamed


def _with_head(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Removes OpenMMLab's prefix `backbone.` and keeps the classifier, which has none."""
    head = {
        name: value
        for name, value in strip_prefixes(
            {name: value for name, value in state_dict.items() if "backbone." not in name}
        ).items()
        if name.startswith("head.fc.")
    }
    return strip_prefixes(state_dict) | head


def _next_stage(match: re.Match[str]) -> str:
    """Moves a downsampling layer from the end of a stage to the start of the next."""
    return f"stages.{int(match[1]) + 1}.downsample."


def _norm_of_head(state_dict: dict[str, torch.Tensor], stages: int) -> dict[str, torch.Tensor]:
    """Renames the last output norm to the head's: mmpretrain applies it before pooling, the official code after it."""
    last = f"norm{stages - 1}."
    if not any(name.startswith("head.fc.") for name in state_dict):
        return state_dict
    return {re.sub(rf"^{re.escape(last)}", "head.norm.", name): value for name, value in state_dict.items()}


def _flat_block(name: str, attn_types: tuple[str, ...]) -> str:
    """Numbers blocks within their stage: published names count repetitions, and the blocks within each."""
    match = re.match(r"^(stages\.\d+\.blocks\.|stages\.\d+\.)(\d+)\.(\d+|spatial_block|channel_block)\.(.*)$", name)
    if match is None:
        return name
    place = match[3].removesuffix("_block")
    if place in attn_types:
        place = attn_types.index(place)
    elif not place.isdigit():
        return name
    stage = match[1] if match[1].endswith("blocks.") else f"{match[1]}blocks."
    return f"{stage}{int(match[2]) * len(attn_types) + int(place)}.{match[4]}"
