"""What the bodies of the family share: checks of what a model is built from, and the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.checks import check_positive, per_stage, to_pair


def check_agent_blocks(agent_blocks: Sequence[int], depths: Sequence[int]) -> None:
    """Raises a ValueError unless `agent_blocks` counts the first blocks of each stage, from none to all."""
    if len(agent_blocks) != len(depths):
        raise ValueError(f"agent_blocks needs one number a stage, but has {len(agent_blocks)} for {len(depths)}.")
    for index, (count, depth) in enumerate(zip(agent_blocks, depths, strict=True)):
        check_positive(f"agent_blocks[{index}]", count, least=0)
        if count > depth:
            raise ValueError(f"agent_blocks[{index}] = {count} must be at most depths[{index}] = {depth}.")


def agent_shapes_per_stage(
    agent_shapes: Sequence[int | Sequence[int]] | None, num_stages: int
) -> list[tuple[int, int] | None]:
    """Gives the shape of the agents' grid of each stage; None for the trained one."""
    shapes = per_stage("agent_shapes", agent_shapes, num_stages)
    return [None if shape is None else to_pair(f"agent_shapes[{index}]", shape) for index, shape in enumerate(shapes)]


def grid_of(img_size: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Gives the height and width of a map of an image, where sides are padded to whole strides."""
    height, width = to_pair("img_size", img_size)
    return -(-height // stride), -(-width // stride)
