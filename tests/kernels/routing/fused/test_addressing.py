"""Which tokens tiles and steps have, in Triton's interpreter."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from attnzoo.kernels.routing.fused.addressing import divide, step_tokens, tile_tokens
from attnzoo.kernels.routing.fused.plan import Plan, _reciprocal, make_plan


@triton.jit
def _divide(numbers, divisor, reciprocal, quotients, remainders):
    offs = tl.arange(0, 8)
    quotient, remainder = divide(tl.load(numbers + offs), divisor, reciprocal)
    tl.store(quotients + offs, quotient)
    tl.store(remainders + offs, remainder)


@pytest.mark.parametrize("divisor", [1, 3, 7, 49, 65537, 2**31 - 1])
def test_division(divisor):
    numbers = torch.tensor([0, 1, 6, 7, 48, 65536 * 7, 2**31 - 2, 2**31 - 1], dtype=torch.int32)
    quotients, remainders = torch.empty_like(numbers), torch.empty_like(numbers)
    _divide[(1,)](numbers, divisor, torch.tensor(_reciprocal(divisor)).item(), quotients, remainders)
    assert torch.equal(quotients, numbers // divisor)
    assert torch.equal(remainders, numbers % divisor)


@triton.jit
def _count_tile_tokens(counts, regions, grid, TILE: tl.constexpr, MASKED: tl.constexpr):
    tile = tile_tokens(tl.program_id(0), grid, TILE, MASKED)
    places = tile.rows * grid.map_width + tile.cols
    tl.store(counts + places, tl.load(counts + places, mask=tile.known, other=0) + 1, mask=tile.known)
    tl.store(regions + places, tile.region, mask=tile.known)


def _plan(masked: bool) -> Plan:
    """A map of 6x10 tokens in 2x2 regions of 3x5."""
    plan = make_plan(torch.empty(1, 6, 10, 1, 4), torch.zeros(1, 4, 1, dtype=torch.int64), (2, 2))
    return Plan(plan.grid, masked)


@pytest.mark.parametrize("masked", [False, True])
def test_every_token_is_in_one_tile(masked):
    plan = _plan(masked)
    counts, regions = torch.zeros(6, 10, dtype=torch.int32), torch.zeros(6, 10, dtype=torch.int32)
    _count_tile_tokens[(plan.tiles(16),)](counts, regions, plan.grid, TILE=16, MASKED=masked)
    assert (counts == 1).all()
    expected = torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)
    assert torch.equal(regions, expected.repeat_interleave(3, 0).repeat_interleave(5, 1))


@triton.jit
def _count_step_tokens(counts, region_list, count, grid, STEP: tl.constexpr, MASKED: tl.constexpr):
    for first in range(0, count * grid.tokens, STEP):
        step = step_tokens(first, region_list, count, grid, STEP, MASKED)
        places = step.rows * grid.map_width + step.cols
        # A step can have tokens twice, so every one of them has a map of its own.
        own = counts + (first + tl.arange(0, STEP)) * grid.map_tokens + places
        tl.store(own, 1, mask=step.known)


@pytest.mark.parametrize(
    ("masked", "routes"),
    [
        (False, [3, 0]),
        (False, [2, 2, 2]),
        (False, [9, -1]),
        (False, [2**31 + 5, 2**32, -(2**31) - 3, -(2**32) + 1]),
        (True, None),
    ],
)
def test_steps_have_the_tokens_of_all_listed_regions(masked, routes):
    plan = _plan(masked)
    count = 4 if routes is None else len(routes)
    counts = torch.zeros(64, 6, 10, dtype=torch.int32)
    region_list = torch.tensor(routes or [0])
    _count_step_tokens[(1,)](counts, region_list, count, plan.grid, STEP=16, MASKED=masked)
    expected = torch.zeros(2, 2, dtype=torch.int32)
    for region in range(4) if routes is None else region_list.clamp(0, 3).tolist():
        expected[region // 2, region % 2] += 1
    assert torch.equal(counts.sum(0, dtype=torch.int32), expected.repeat_interleave(3, 0).repeat_interleave(5, 1))
