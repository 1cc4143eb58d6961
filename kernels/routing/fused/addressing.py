"""What every kernel does with its tile: find out which tokens it holds and which it walks over, and where they lie.

A map's shape comes to a kernel as numbers, not as constants, so that one compilation serves maps of every size. They
are in `GEOMETRY`'s order: `plan.geometry` makes them.
"""

# Kernels are in Triton's language, where a constexpr is a number.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

GEOMETRY = (
    "regions",
    "columns of regions",
    "rows of a region",
    "columns of a region",
    "tokens of a region",
    "width of the map",
    "tokens of the map",
    "reciprocal of the columns of regions",
    "reciprocal of the columns of a region",
    "reciprocal of the tokens of a region",
)


@triton.jit
def divide(number, divisor, reciprocal):
    """Divides non-negative 32-bit numbers: quotient and remainder.

    `reciprocal` is 2^32 / divisor, rounded down (for a divisor of 1: 2^32 - 1), as a signed number of the same bits. So
    the quotient is right or one too small, for every number, and this takes a third of a division's instructions.
    """
    quotient = tl.umulhi(number.to(tl.uint32), reciprocal.to(tl.uint32)).to(tl.int32)
    remainder = number - quotient * divisor
    small = remainder >= divisor
    return tl.where(small, quotient + 1, quotient), tl.where(small, remainder - divisor, remainder)


@triton.jit
def locate(region, token, geometry):
    """Row and column, on the map, of a region's token."""
    region_row, region_col = divide(region, geometry[1], geometry[7])
    row, col = divide(token, geometry[3], geometry[8])
    return region_row * geometry[2] + row, region_col * geometry[3] + col


@triton.jit
def own_tokens(tile, geometry, TILE: tl.constexpr, MASKED: tl.constexpr):
    """The tokens of a tile: (TILE,) region, row, column, and whether there is such a token.

    A tile holds tokens of one region or, if `MASKED`, tokens in the order of regions, of as many as it takes.
    """
    lanes = tl.arange(0, TILE)
    if MASKED:
        token = tile * TILE + lanes
        owned = token < geometry[6]
        region, token = divide(token, geometry[4], geometry[9])
    else:
        parts = (geometry[4] + TILE - 1) // TILE
        token = tile % parts * TILE + lanes
        owned = token < geometry[4]
        region = tile // parts + tl.zeros([TILE], tl.int32)
    row, col = locate(region, token, geometry)
    return region, row, col, owned


@triton.jit
def walked_tokens(slots, listed, count, geometry, MASKED: tl.constexpr):
    """The tokens at some slots of a walk over `count` regions: region, row, column, and whether there is such a token.

    The walk goes over the regions at `listed`, one after the other, or if `MASKED` over all. So a step may hold tokens
    of several regions, and only the last one is not full.
    """
    place, token = divide(slots, geometry[4], geometry[9])
    present = place < count
    if MASKED:
        region = place
    else:
        region = tl.load(listed + place, mask=present, other=0).to(tl.int32)
        region = tl.minimum(tl.maximum(region, 0), geometry[0] - 1)
    row, col = locate(region, token, geometry)
    return region, row, col, present


@triton.jit
def place_of(row, col, geometry, heads, head, WIDE: tl.constexpr):
    """Index of positions among an image's (H, W, heads), in 64 bits if `WIDE`."""
    if WIDE:
        row = row.to(tl.int64)
    return (row * geometry[5] + col) * heads + head
