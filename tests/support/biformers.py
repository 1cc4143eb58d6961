"""Small BiFormers, their parameter names in the original implementation, and reference bi-level routing attention."""

from __future__ import annotations

import re
from typing import Any, cast

import torch

from attnzoo.backbones.biformer import BiFormer
from attnzoo.backbones.biformer.model import BiFormerBlock, PatchStem


def tiny(**kwargs: Any) -> BiFormer:
    """Builds a BiFormer with two stages of routing attention, which pad most map sizes, and one of full attention."""
    defaults: dict[str, Any] = {
        "depths": (2, 1, 1),
        "embed_dims": (8, 16, 16),
        "num_heads": (1, 2, 2),
        "topks": (1, 3, -2),
        "num_regions": (3, 2, 2),
        "num_classes": 5,
    }
    return BiFormer(**{**defaults, **kwargs})


def tiny_stl(**kwargs: Any) -> BiFormer:
    return tiny(**{"patches": "patch", "pos_embed": False, **kwargs})


def blocks_of(model: BiFormer) -> list[list[BiFormerBlock]]:
    return [list(cast("Any", stage).blocks) for stage in model.stages]


def official_names(model: BiFormer, nchw: bool = False) -> dict[str, str]:
    """Maps the keys of a model's state dict to those of the original implementation.

    Args:
        model: The model.
        nchw: Use the names of the refactored STL variant.
    """
    is_stl = isinstance(model.stem, PatchStem)
    full = {f"stages.{index}." for index, topk in enumerate(topks_of(model)) if topk < 0}
    stem_index = {"conv": 0, "bn": 1} if is_stl else {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}
    downsample = {"conv": 1, "bn": 0} if is_stl else {"conv": 0, "bn": 1}

    def rename(name: str) -> str:
        name = re.sub(r"^stem\.(\w+)\.", lambda match: f"downsample_layers.0.{stem_index[match[1]]}.", name)
        name = re.sub(
            r"^stages\.(\d+)\.downsample\.(\w+)\.",
            lambda match: f"downsample_layers.{match[1]}.{downsample[match[2]]}.",
            name,
        )
        if not any(name.startswith(start) for start in full):
            name = name.replace("attn.qkv.", "attn.qkv_linear." if nchw else "attn.qkv.qkv.")
            name = name.replace("attn.proj.", "attn.output_linear." if nchw else "attn.wo.")
        name = name.replace("mlp.fc1.", "mlp.0.").replace("mlp.fc2.", "mlp.2." if is_stl else "mlp.3.")
        name = name if is_stl else name.replace(".blocks.", ".")
        return name.replace("head.fc.", "head.")

    return {name: rename(name) for name in model.state_dict()}


def topks_of(model: BiFormer) -> list[int]:
    return [getattr(blocks[0].attn, "topk", -2) for blocks in blocks_of(model)]


def gathered_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    windows: int,
    topk: int,
    scale: float,
) -> torch.Tensor:
    """Computes bi-level routing attention of maps (B, H, W, C) in a loop over images and regions."""
    out = torch.empty_like(value)
    batch, height, width, _ = query.shape
    rows, cols = height // windows, width // windows
    regions = [
        (slice(row * rows, (row + 1) * rows), slice(col * cols, (col + 1) * cols))
        for row in range(windows)
        for col in range(windows)
    ]
    for image in range(batch):
        key_means = torch.stack([key[image][region].mean((0, 1)) for region in regions])
        for region in regions:
            affinity = key_means @ query[image][region].mean((0, 1))
            routed = [regions[index] for index in affinity.sort(descending=True).indices[:topk].tolist()]
            keys, values = (
                torch.cat([tensor[image][other].flatten(0, 1) for other in routed]).unflatten(1, (heads, -1))
                for tensor in (key, value)
            )
            queries = query[image][region].unflatten(2, (heads, -1))
            logits = torch.einsum("hwnd,knd->nhwk", queries, keys) * scale
            out[image][region] = torch.einsum("nhwk,knd->hwnd", logits.softmax(-1), values).flatten(2)
    return out
