"""Which pixels a kernel's tile and its steps refer to.

A tile is the set of tokens that a program owns, a step the set of tokens of the other side that it processes at a time.
The shape of a map comes to a kernel as numbers and not as constants, so that one compilation serves maps of every size.
"""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class RegionGrid(NamedTuple):
    """The regions of a map. Reciprocals are what `divide` takes.

    Kernels take the fields as separate arguments, because Triton specializes on the values of numbers inside a tuple,
    and would compile a kernel again for other sizes.

    Attributes:
        regions: Number of regions.
        region_cols: Columns of regions.
        rows: Rows of a region.
        cols: Columns of a region.
        tokens: Tokens of a region.
        map_width: Columns of the map.
        map_tokens: Tokens of the map.
        region_cols_reciprocal: Reciprocal of `region_cols`.
        cols_reciprocal: Reciprocal of `cols`.
        tokens_reciprocal: Reciprocal of `tokens`.
    """

    regions: Any
    region_cols: Any
    rows: Any
    cols: Any
    tokens: Any
    map_width: Any
    map_tokens: Any
    region_cols_reciprocal: Any
    cols_reciprocal: Any
    tokens_reciprocal: Any


GRID_FIELDS = [
    "regions",
    "region_cols",
    "rows",
    "cols",
    "region_tokens",
    "map_width",
    "map_tokens",
    "region_cols_reciprocal",
    "cols_reciprocal",
    "tokens_reciprocal",
]
"""Names of a kernel's arguments for the fields of `RegionGrid`, not to be specialized on."""


class Tokens(NamedTuple):
    """Tokens of a tile or a step; vectors have one entry per token.

    Attributes:
        region: Region of the token.
        rows: Row on the map.
        cols: Column on the map.
        known: Whether there is such a token.
    """

    region: Any
    rows: Any
    cols: Any
    known: Any


@triton.jit
def divide(number, divisor, reciprocal):
    """Divides non-negative 32-bit integers and returns quotient and remainder.

    `reciprocal` is 2^32 / divisor, rounded down (2^32 - 1 for a divisor of 1), as a signed integer of the same bits.
    The estimated quotient is exact or one too small for every number. This takes a third of a division's instructions.
    """
    quotient = tl.umulhi(number.to(tl.uint32), reciprocal.to(tl.uint32)).to(tl.int32)
    remainder = number - quotient * divisor
    too_small = remainder >= divisor
    return tl.where(too_small, quotient + 1, quotient), tl.where(too_small, remainder - divisor, remainder)


@triton.jit
def locate(region, token, known, grid):
    """Locates tokens, numbered inside their regions, on the map."""
    region_row, region_col = divide(region, grid.region_cols, grid.region_cols_reciprocal)
    row, col = divide(token, grid.cols, grid.cols_reciprocal)
    return Tokens(region, region_row * grid.rows + row, region_col * grid.cols + col, known)


@triton.jit
def tile_tokens(tile, grid, TILE: tl.constexpr, MASKED: tl.constexpr):
    """Returns the tokens of a tile.

    A tile has tokens of one region or, if `MASKED`, TILE consecutive tokens of the map in the order of regions.
    """
    offs = tl.arange(0, TILE)
    if MASKED:
        number = tile * TILE + offs
        known = number < grid.map_tokens
        region, token = divide(number, grid.tokens, grid.tokens_reciprocal)
    else:
        tiles_per_region = (grid.tokens + TILE - 1) // TILE
        token = tile % tiles_per_region * TILE + offs
        known = token < grid.tokens
        region = tile // tiles_per_region + tl.zeros([TILE], tl.int32)
    return locate(region, token, known, grid)


@triton.jit
def step_tokens(first, region_list, count, grid, STEP: tl.constexpr, MASKED: tl.constexpr):
    """Returns the tokens of the step that starts at token `first` of `count` regions.

    The regions are those at `region_list`, one after the other, or all regions of the map if `MASKED`. A step can have
    tokens of several regions; only the last step can be partial.
    """
    offs = first + tl.arange(0, STEP)
    place, token = divide(offs, grid.tokens, grid.tokens_reciprocal)
    known = place < count
    if MASKED:
        region = place
    else:
        # Clamped as 64-bit integers: their lower 32 bits alone could look like another region.
        region = tl.load(region_list + place, mask=known, other=0)
        region = tl.minimum(tl.maximum(region, 0), grid.regions - 1).to(tl.int32)
    return locate(region, token, known, grid)
