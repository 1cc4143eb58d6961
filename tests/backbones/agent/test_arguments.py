"""Checks of the arguments that the bodies with agent attention share."""

from __future__ import annotations

import pytest

from attnzoo.backbones.agent.arguments import agent_shapes_per_stage, check_agent_blocks, grid_of


def test_agent_blocks_are_counted_per_stage():
    check_agent_blocks((0, 2), (1, 2))
    with pytest.raises(ValueError, match="agent_blocks"):
        check_agent_blocks((1,), (1, 2))
    with pytest.raises(ValueError, match=r"agent_blocks\[1\] must be <= depths\[1\] = 2, got 3"):
        check_agent_blocks((1, 3), (1, 2))
    with pytest.raises(ValueError, match=r"agent_blocks\[0\] must be an integer >= 0, got -1"):
        check_agent_blocks((-1, 2), (1, 2))


def test_agent_shapes():
    assert agent_shapes_per_stage(None, 2) == [None, None]
    assert agent_shapes_per_stage([3, (2, 4)], 2) == [(3, 3), (2, 4)]
    with pytest.raises(ValueError, match="agent_shapes must have one entry per stage, got 1 for 2 stages"):
        agent_shapes_per_stage([3], 2)
    with pytest.raises(ValueError, match=r"agent_shapes\[1\] must be a positive integer or a pair"):
        agent_shapes_per_stage([3, (2, 0)], 2)


def test_grids_are_rounded_up():
    assert grid_of(224, 16) == (14, 14)
    assert grid_of((225, 31), 16) == (15, 2)
