"""Checks and derived sizes shared by the bodies of the family."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.checks import check_positive, per_stage, to_pair


def check_agent_blocks(agent_blocks: Sequence[int], depths: Sequence[int]) -> None:
    """Raises a ValueError unless `agent_blocks` has one number per stage, from 0 to the stage's depth."""
    if len(agent_blocks) != len(depths):
        raise ValueError(f"agent_blocks must have one number per stage ({len(depths)}), got {len(agent_blocks)}.")
    for index, (count, depth) in enumerate(zip(agent_blocks, depths, strict=True)):
        check_positive(f"agent_blocks[{index}]", count, least=0)
        if count > depth:
            raise ValueError(f"agent_blocks[{index}] must be <= depths[{index}] = {depth}, got {count}.")


def agent_shapes_per_stage(
    agent_shapes: Sequence[int | Sequence[int]] | None, num_stages: int
) -> list[tuple[int, int] | None]:
    """Returns the shape of each stage's agent grid; None for the trained one."""
    shapes = per_stage("agent_shapes", agent_shapes, num_stages)
    return [None if shape is None else to_pair(f"agent_shapes[{index}]", shape) for index, shape in enumerate(shapes)]


def grid_of(img_size: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Returns the height and width of the feature map of an image padded to a multiple of the stride."""
    height, width = to_pair("img_size", img_size)
    return -(-height // stride), -(-width // stride)
