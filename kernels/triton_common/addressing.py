"""Loading and storing the vectors of (B, H, W, heads, dim) tensors of any strides."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl


class StridedTensor(NamedTuple):
    """A tensor as kernels receive it.

    Attributes:
        data: The tensor; a pointer inside a kernel.
        strides: One stride per axis, in elements.
    """

    data: Any
    strides: tuple[Any, ...]


class VectorDim(NamedTuple):
    """Length of a tensor's vectors.

    Attributes:
        size: Number of elements.
        padded: Length of a vector in registers, a power of two.
    """

    size: int
    padded: int


def strided(tensor: torch.Tensor | None) -> StridedTensor | None:
    """Pairs a tensor with its strides; None for an operand that is absent."""
    return None if tensor is None else StridedTensor(tensor, tensor.stride())


def padded_dim(dim: int) -> int:
    """Returns the length of a vector in registers: the next power of two, >= 16 because `tl.dot` requires it."""
    return max(16, triton.next_power_of_2(dim))


def vector_dim(tensor: torch.Tensor) -> VectorDim:
    """Returns the length of a tensor's vectors, which are its last axis."""
    return VectorDim(tensor.shape[-1], padded_dim(tensor.shape[-1]))


def needs_int64_offsets(*tensors: torch.Tensor | None) -> bool:
    """Whether an image of one of the (B, H, W, heads, dim) tensors spans more than 2^31 elements."""
    return any(
        sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True)) >= 2**31
        for tensor in tensors
        if tensor is not None
    )


@triton.jit
def select_head(tensor, batch, head):
    """Returns one head of one image of a (B, H, W, heads, dim) tensor; strides are those of the full tensor."""
    data = tensor.data + batch.to(tl.int64) * tensor.strides[0] + head.to(tl.int64) * tensor.strides[3]
    return StridedTensor(data, tensor.strides)


@triton.jit
def pixel_offsets(rows, cols, strides, INT64_OFFSETS: tl.constexpr):
    """Element offsets of the pixels (rows, cols) inside an image of a (B, H, W, heads, dim) tensor."""
    if INT64_OFFSETS:
        rows = rows.to(tl.int64)
        cols = cols.to(tl.int64)
    return rows * strides[1] + cols * strides[2]


@triton.jit
def pixel_index(rows, cols, head, width, heads, INT64_OFFSETS: tl.constexpr):
    """Indices of the pixels (rows, cols) in the contiguous (H, W, heads) of an image."""
    if INT64_OFFSETS:
        rows = rows.to(tl.int64)
    return (rows * width + cols) * heads + head


@triton.jit
def zero_vectors(COUNT: tl.constexpr, DIM: tl.constexpr):
    """Returns a (COUNT, DIM.padded) block of zeros, to accumulate vectors in."""
    PADDED: tl.constexpr = DIM.padded
    return tl.zeros([COUNT, PADDED], tl.float32)


@triton.jit
def load_vectors(data, offsets, mask, stride, DIM: tl.constexpr):
    """Loads vectors as the rows of a (vectors, DIM.padded) block, with zeros where masked and past DIM.size."""
    dims = tl.arange(0, DIM.padded)
    pointers = data + offsets[:, None] + dims[None, :] * stride
    if DIM.size == DIM.padded:
        return tl.load(pointers, mask=mask[:, None], other=0.0)
    return tl.load(pointers, mask=mask[:, None] & (dims[None, :] < DIM.size), other=0.0)


@triton.jit
def load_pixels(head, rows, cols, mask, DIM: tl.constexpr, INT64_OFFSETS: tl.constexpr):
    """Loads the vectors of the pixels (rows, cols) from a head that `select_head` returned."""
    offsets = pixel_offsets(rows, cols, head.strides, INT64_OFFSETS)
    return load_vectors(head.data, offsets, mask, head.strides[4], DIM)


@triton.jit
def store_vectors(data, index, mask, values, DIM: tl.constexpr):
    """Stores the rows of a (vectors, DIM.padded) block to a contiguous tensor; `index` counts vectors."""
    dims = tl.arange(0, DIM.padded)
    pointers = data + (index * DIM.size)[:, None] + dims[None, :]
    keep = mask[:, None] & (dims[None, :] < DIM.size)
    tl.store(pointers, values.to(data.dtype.element_ty), mask=keep)
