"""Conversion of published checkpoints to the model's own names.

Forms: the official classifiers (NAT and DiNAT: `levels.*`; DiNAT_s and isotropic: `layers.*`), the official backbones
for detection and segmentation (the same with `norm0` to `norm3`), and transformers' port (models `nat` and `dinat`,
with separate query, key and value layers).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..common.checkpoints import strip_prefixes
from .attention import resize_rpb

if TYPE_CHECKING:
    from .model import NAT

_logger = logging.getLogger(__name__)

_COMPUTED = re.compile(r"\.relative_position_index$")
"""Buffers in official files that follow from the configuration."""

_OFFICIAL = (
    (r"^patch_embed\.proj\.(\d)\.", r"stem.convs.\1."),
    (r"^patch_embed\.", "stem."),
    (r"^(?:levels|layers)\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    (r"\.gamma([12])$", r".ls\1.gamma"),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
_TRANSFORMERS = (
    (r"^(?:nat|dinat)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "stem.convs."),
    (r"^embeddings\.norm\.", "stem.norm."),
    (r"^encoder\.levels\.(\d+)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^encoder\.levels\.", "levels."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head.fc."),
)


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: NAT) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of any published form to the model's names; the model's own names pass unchanged.

    Relative position biases for another kernel size are resized by bicubic interpolation, which is how the official
    11x11 file was made from the 7x7 one. Unknown names are kept, for strict loading to report.

    Args:
        state_dict: Tensors by name; prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed.
        model: Model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in strip_prefixes(state_dict).items():
        if _COMPUTED.search(name):
            continue
        for pattern, replacement in (*_TRANSFORMERS, *_OFFICIAL):
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^(?:levels|layers)\.(\d+)\.downsample\.", _next_stage, name)
        name = re.sub(r"^layers\.(\d+)\.", lambda match: _isotropic_block(int(match[1]), model.depths), name)
        name = re.sub(r"^hidden_states_norms\.stage(\d+)\.", lambda match: f"norm{int(match[1]) - 1}.", name)
        renamed[name] = tensor
    return _resize_biases(_merge_qkv(_split_layer_scale(renamed)), model)


def _next_stage(match: re.Match[str]) -> str:
    """Moves a downsampling layer from the end of a stage to the start of the next."""
    return f"stages.{int(match[1]) + 1}.downsample."


def _isotropic_block(index: int, depths: tuple[int, ...]) -> str:
    """Returns the name of an isotropic model's block; blocks that the model does not have keep their name."""
    place = index
    for stage, depth in enumerate(depths):
        if place < depth:
            return f"stages.{stage}.blocks.{place}."
        place -= depth
    return f"layers.{index}."


def _split_layer_scale(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Splits transformers' layer scale (2, dim) into those of attention and MLP."""
    out = {}
    for name, tensor in state_dict.items():
        block, is_pair, _ = name.partition("layer_scale_parameters")
        if is_pair:
            out[f"{block}ls1.gamma"], out[f"{block}ls2.gamma"] = tensor[0].clone(), tensor[1].clone()
        else:
            out[name] = tensor
    return out


def _merge_qkv(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Merges transformers' separate query, key and value layers into one."""
    out = {}
    for name, tensor in state_dict.items():
        match = re.fullmatch(r"(.*\.attn\.)(query|key|value)(\.\w+)", name)
        parts = [f"{match[1]}{part}{match[3]}" for part in ("query", "key", "value")] if match else []
        if match is None or not all(part in state_dict for part in parts):
            out[name] = tensor
        elif match[2] == "query":
            out[f"{match[1]}qkv{match[3]}"] = torch.cat([state_dict[part] for part in parts])
    return out


def _resize_biases(state_dict: dict[str, torch.Tensor], model: NAT) -> dict[str, torch.Tensor]:
    """Resizes relative position biases to the model's kernel size, and logs it."""
    wanted = {name: parameter for name, parameter in model.named_parameters() if name.endswith(".rpb")}
    sizes = set()
    for name, parameter in wanted.items():
        given = state_dict.get(name)
        if given is None or given.ndim != 3 or given.shape == parameter.shape or len(given) != len(parameter):
            continue
        height, width = parameter.shape[1:]
        state_dict[name] = resize_rpb(given, (height, width))
        sizes.add((tuple(given.shape[1:]), (height, width)))
    for given_size, own_size in sorted(sizes):
        _logger.info("Resized the relative position biases from %s to %s.", given_size, own_size)
    return state_dict
