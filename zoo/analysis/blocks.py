"""Blocks of a backbone: finding one, and the layout and size of its feature maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def find_block(backbone: Any, stage: int, block: int) -> nn.Module:
    """Returns a block of a backbone.

    Args:
        backbone: A backbone, or the `FeatureMaps` around one.
        stage: Index of the stage; negative indices count from the end.
        block: Index of the block in the stage; negative indices count from the end.

    Raises:
        ValueError: There is no such stage or block.
    """
    body = getattr(backbone, "body", backbone)
    stages = getattr(body, "stages", None)
    if stages is None:
        raise ValueError(f"{type(body).__name__} has no attribute `stages`.")
    if not -len(stages) <= stage < len(stages):
        raise ValueError(f"There is no stage {stage}; {type(body).__name__} has {len(stages)}, 0 to {len(stages) - 1}.")
    blocks = stages[stage].blocks
    if not -len(blocks) <= block < len(blocks):
        raise ValueError(
            f"There is no block {block} in stage {stage}, which has {len(blocks)}: 0 to {len(blocks) - 1}."
        )
    return blocks[block]


def input_size(body: Any, args: tuple[Any, ...]) -> tuple[int, int]:
    """Returns the height and width of the map that a block receives, from the arguments of its call."""
    x, *others = args
    if x.ndim == 3:  # tokens; the size of their map is the last argument
        height, width = others[-1]
        return int(height), int(width)
    return _spatial_size(body, x)


def output_size(backbone: Any, image: torch.Tensor, module: nn.Module) -> tuple[int, int]:
    """Returns the height and width of the map that a block computes for an image.

    Args:
        backbone: A backbone, or the `FeatureMaps` around one. It is put into evaluation mode.
        image: (1, C, H, W), normalized.
        module: The block.
    """
    body = getattr(backbone, "body", backbone)
    sizes: list[tuple[int, int]] = []

    def record_size(_: Any, args: tuple[Any, ...], out: torch.Tensor) -> None:
        sizes.append(input_size(body, args) if out.ndim == 3 else _spatial_size(body, out))

    handle = module.register_forward_hook(record_size)
    try:
        with torch.no_grad():
            backbone.eval()(image)
    finally:
        handle.remove()
    return sizes[0]


def _spatial_size(body: Any, x: torch.Tensor) -> tuple[int, int]:
    height, width = x.shape[2:] if body.map_layout == "NCHW" else x.shape[1:3]
    return int(height), int(width)


def as_map(body: Any, out: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Views the output of a block or stage as (B, C, H, W).

    Args:
        body: The backbone, which defines the layout of its maps.
        out: A map in that layout, or tokens (B, prefix + H * W, C).
        size: H and W, required for tokens.
    """
    if out.ndim == 3:
        assert size is not None
        return out[:, body.num_prefix_tokens :].unflatten(1, size).permute(0, 3, 1, 2)
    return out if body.map_layout == "NCHW" else out.permute(0, 3, 1, 2)
