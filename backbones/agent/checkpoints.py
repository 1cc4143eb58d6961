"""Conversion of published Agent Attention checkpoints to this package's names.

Supported: the official classification files of the four bodies, and the official backbones for detection and
    segmentation
(the same names, with `norm0` to `norm3` for Swin, usually prefixed with `backbone.`). Weights for another image size
are resized as in the official fine-tuning code: row and column biases linearly, relative position tables and position
embeddings by bicubic interpolation.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ..common.checkpoints import strip_prefixes
from .deit import AgentDeiT, resize_pos_embed

if TYPE_CHECKING:
    from ..common.backbone import Backbone

_logger = logging.getLogger(__name__)

_COMPUTED = re.compile(r"\.(relative_position_index|attn_mask)$")
"""Buffers of the official files that are derived from the configuration."""

_LINES = {"ah_bias": 3, "aw_bias": 4, "ha_bias": 2, "wa_bias": 3}
"""Row and column biases, and the axis that counts rows or columns."""

_NAMES = (
    # DeiT
    (r"^(cls_token|pos_embed)$", r"stem.\1"),
    # PVT: numbered from 1
    (r"^patch_embed1\.", "stem."),
    (r"^pos_embed1$", "stem.pos_embed"),
    (r"^patch_embed(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.downsample."),
    (r"^pos_embed(\d)$", lambda match: f"stages.{int(match[1]) - 1}.downsample.pos_embed"),
    (r"^block(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks."),
    # Swin (and DeiT's patch embedding)
    (r"^patch_embed\.", "stem."),
    (r"^layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"stages.{int(match[1]) + 1}.downsample."),
    # CSWin: numbered from 1
    (r"^stage1_conv_embed\.0\.", "stem.proj."),
    (r"^stage1_conv_embed\.2\.", "stem.norm."),
    (r"^merge(\d)\.", r"stages.\1.downsample."),
    (
        r"^stage(\d)\.(\d+)\.(qkv|proj)\.",
        lambda match: f"stages.{int(match[1]) - 1}.blocks.{match[2]}.attn.{match[3]}.",
    ),
    (r"^stage(\d)\.(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks.{match[2]}."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: Backbone) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of any published form to the model's names; the model's own names pass unchanged.

    Args:
        state_dict: Checkpoint entries. Prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed. Unknown names are kept.
        model: Model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in strip_prefixes(state_dict).items():
        if _COMPUTED.search(name):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if isinstance(model, AgentDeiT):
            name = re.sub(r"^blocks\.(\d+)\.", lambda match: _place_of_block(int(match[1]), model.depths), name)
        renamed[name] = tensor
    return _resize(_name_tables(_merge_branches(_merge_qkv(renamed))), model)


def _place_of_block(index: int, depths: tuple[int, ...]) -> str:
    """Returns the new name of a numbered block; a block that the model does not have keeps its name."""
    place = index
    for stage, depth in enumerate(depths):
        if place < depth:
            return f"stages.{stage}.blocks.{place}."
        place -= depth
    return f"blocks.{index}."


def _merge_qkv(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Joins PVT's queries with its keys and values into one layer."""
    out = {}
    for name, tensor in state_dict.items():
        match = re.fullmatch(r"(.*\.attn\.)(q|kv)(\.\w+)", name)
        other = f"{match[1]}{'kv' if match[2] == 'q' else 'q'}{match[3]}" if match else ""
        if match is None or other not in state_dict:
            out[name] = tensor
        elif match[2] == "q":
            out[f"{match[1]}qkv{match[3]}"] = torch.cat([tensor, state_dict[other]])
    return out


def _merge_branches(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Moves CSWin's branches into the attention module: a single one directly, the convolutions of two as a list."""
    out = {}
    for name, tensor in state_dict.items():
        match = re.fullmatch(r"(.*)\.attns\.(\d)\.(.*)", name)
        if match is None:
            out[name] = tensor
            continue
        block, branch, rest = match.groups()
        is_one_of_two = f"{block}.attns.1.get_v.weight" in state_dict
        rest = re.sub(r"^get_v\.", f"dwc.{branch}." if is_one_of_two else "dwc.", rest)
        out[f"{block}.attn.{rest}"] = tensor
    return out


def _name_tables(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Converts Swin's relative position tables (offsets, heads) to (heads, row offsets, column offsets)."""
    out = {}
    for name, tensor in state_dict.items():
        start, found, _ = name.rpartition("relative_position_bias_table")
        side = math.isqrt(len(tensor)) if found and tensor.ndim == 2 else 0
        if side and side * side == len(tensor):
            out[f"{start}rpb"] = tensor.t().unflatten(1, (side, side)).contiguous()
        else:
            out[name] = tensor
    return out


def _resize(state_dict: dict[str, torch.Tensor], model: Backbone) -> dict[str, torch.Tensor]:
    """Resizes image-size-dependent parameters to the model's shapes, and logs it."""
    resized = set()
    for name, parameter in model.named_parameters():
        given = state_dict.get(name)
        if given is None or given.ndim != parameter.ndim or given.shape == parameter.shape:
            continue
        kind = name.rpartition(".")[2]
        new = None
        if kind in _LINES:
            new = _resize_line(given, parameter.shape, _LINES[kind])
        elif kind == "rpb" and len(given) == len(parameter):
            new = F.interpolate(given[None].float(), parameter.shape[1:], mode="bicubic", align_corners=False)[0]
        elif kind == "pos_embed" and given.shape[2] == parameter.shape[2]:
            grid_size: Any = model.get_submodule(name.rpartition(".")[0]).grid_size
            new = _resize_embedding(given, grid_size, parameter.shape[1])
        if new is not None:
            state_dict[name] = new.to(given.dtype)
            resized.add(kind)
    if resized:
        _logger.info("Resized %s to the image size of the model.", ", ".join(sorted(resized)))
    return state_dict


def _resize_line(bias: torch.Tensor, shape: torch.Size, axis: int) -> torch.Tensor | None:
    """Resizes row or column biases linearly along an axis; None if they differ along others."""
    if any(given != own for place, (given, own) in enumerate(zip(bias.shape, shape, strict=True)) if place != axis):
        return None
    lines = bias.movedim(axis, -1)
    resized = F.interpolate(lines.flatten(0, -2)[None].float(), shape[axis], mode="linear", align_corners=False)
    return resized[0].unflatten(0, lines.shape[:-1]).movedim(-1, axis)


def _resize_embedding(embedding: torch.Tensor, grid_size: tuple[int, int], length: int) -> torch.Tensor | None:
    """Resizes the position embedding of a square feature map; None if the map cannot have been square.

    Args:
        embedding: (1, prefix + side * side, C).
        grid_size: Height and width of the target feature map.
        length: prefix + height * width.
    """
    prefix = length - grid_size[0] * grid_size[1]
    side = math.isqrt(embedding.shape[1] - prefix)
    if side * side != embedding.shape[1] - prefix:
        return None
    return resize_pos_embed(embedding, (side, side), grid_size)
