"""What every kernel does with its tile: read its row of the plan, and turn lanes into addresses and masks."""

from __future__ import annotations

import triton
import triton.language as tl

# A score that no query keeps: far below all others, and finite, so that differences of two of them are 0, not NaN.
LOWEST = tl.constexpr(-1.0e38)
# The numbers in front of the ranges in a row of a plan: tiles.FIELDS.
FIELDS = tl.constexpr(8)


@triton.jit
def read_tile(table, tile, lanes, TILE: tl.constexpr):
    """Reads a tile's row of an axis plan, for the lanes' slots in it.

    Returns:
        Position of the tile's first slot, position of its first step's first slot, number of steps, bias index of that
        pair of slots, whether the tile owns each lane, and the range of slots on the other side each lane goes with.
    """
    row = table + tile * (FIELDS + 2 * TILE)
    owned = (lanes >= tl.load(row + 4)) & (lanes < tl.load(row + 5))
    low = tl.load(row + FIELDS + lanes)
    high = tl.load(row + (FIELDS + TILE) + lanes)
    return tl.load(row), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3), owned, low, high


@triton.jit
def offsets(rows, cols, strides, WIDE: tl.constexpr):
    """Element offsets, inside an image, of positions (rows, cols) in a (B, H, W, heads, dim) tensor.

    In 64 bits if `WIDE`, which the host asks for where an image reaches past 2^31 elements.
    """
    if WIDE:
        rows = rows.to(tl.int64)
        cols = cols.to(tl.int64)
    return rows * strides[1] + cols * strides[2]


@triton.jit
def head_base(tensor, batch, head, strides):
    """Pointer to a head of an image in a (B, H, W, heads, dim) tensor."""
    return tensor + batch.to(tl.int64) * strides[0] + head.to(tl.int64) * strides[3]


@triton.jit
def load_vectors(base, offset, mask, stride, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Loads vectors of DIM elements as rows of a (lanes, BLOCK) block, zeros where masked and beyond DIM."""
    dims = tl.arange(0, BLOCK)
    pointers = base + offset[:, None] + dims[None, :] * stride
    if DIM == BLOCK:
        return tl.load(pointers, mask=mask[:, None], other=0.0)
    return tl.load(pointers, mask=mask[:, None] & (dims[None, :] < DIM), other=0.0)


@triton.jit
def store_vectors(base, offset, mask, values, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Stores the rows of a (lanes, BLOCK) block as contiguous vectors of DIM elements."""
    dims = tl.arange(0, BLOCK)
    pointers = base + offset[:, None] + dims[None, :]
    keep = mask[:, None] & (dims[None, :] < DIM)
    tl.store(pointers, values.to(base.dtype.element_ty), mask=keep)


@triton.jit
def load_terms(base, lanes, slots, visible):
    """Loads terms that depend on the query, for the pairs that are visible, for exponents of 2.

    Args:
        base: from `head_base`.
        lanes: element offsets, the tile's part.
        slots: element offsets, the step's part.
        visible: (lanes, slots) which pairs take part; others have no term.
    """
    values = tl.load(base + (lanes[:, None] + slots[None, :]), mask=visible, other=0.0)
    return values.to(tl.float32) * 1.4426950408889634


@triton.jit
def store_terms(base, place, sums, first, lengths, owned, PLACES: tl.constexpr):
    """Stores gradients of terms, which are zero already, from sums by the place of a key in the tile's steps.

    Args:
        base: the gradient, contiguous.
        place: of the lanes' vectors, counted in vectors.
        sums: (lanes, PLACES).
        first: bias index that the first place has for each lane.
        lengths: number of bias indices.
        owned: which lanes to store.
        PLACES: number of places.
    """
    index = first[:, None] + tl.arange(0, PLACES)[None, :]
    keep = owned[:, None] & (index >= 0) & (index < lengths)
    tl.store(base + place[:, None] * lengths + index, sums.to(base.dtype.element_ty), mask=keep)


@triton.jit
def inside(rows, cols, height, width):
    """Whether positions lie on a map."""
    return (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)


@triton.jit
def first_of_step(step, STEP: tl.constexpr, RUN: tl.constexpr, PER_RUN: tl.constexpr):
    """Where a step starts, counted from its tile's first step; with RUN the runs' distance in slots or bias indices."""
    if PER_RUN == 1:
        return step * RUN
    return step // PER_RUN * RUN + step % PER_RUN * STEP


@triton.jit
def score_gradients(
    left, right, left_values, right_values, bias, visible, logs, taken_off, scale, PRECISION: tl.constexpr
):
    """Computes the probabilities of a tile and a step again, and the gradients of their scores.

    Args:
        left: the tile's queries or keys.
        right: the step's keys or queries.
        left_values: the upstream gradients that go with queries, the values that go with keys.
        right_values: likewise.
        bias: what is added to the scores, or None.
        visible: which pairs take part.
        logs: logarithms of the denominators to base 2, in a shape that goes with the scores.
        taken_off: the `delta` of `queries_kernel`, in such a shape.
        scale: multiplies the scores.
        PRECISION: of the matrix products.
    """
    scores = tl.dot(left, tl.trans(right), input_precision=PRECISION) * scale
    if bias is not None:
        scores += bias
    weights = tl.exp2(tl.where(visible, scores, -float("inf")) - logs)
    grad_weights = tl.dot(left_values, tl.trans(right_values), input_precision=PRECISION)
    return weights, weights * (grad_weights - taken_off)
