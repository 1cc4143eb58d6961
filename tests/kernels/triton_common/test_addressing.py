"""Loads and stores of vectors, in Triton's interpreter."""

# Kernels are in Triton's language, where a constexpr stands for its value.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from attnzoo.kernels.triton_common import addressing
from attnzoo.kernels.triton_common.addressing import (
    VectorDim,
    load_pixels,
    pixel_index,
    select_head,
    store_vectors,
    strided,
)


@triton.jit
def _copy_kernel(source, target, height, width, DIM: tl.constexpr, INT64_OFFSETS: tl.constexpr):
    batch = tl.program_id(0)
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    pixels = tl.arange(0, 16)
    rows = pixels // width
    cols = pixels % width
    mask = rows < height
    vectors = load_pixels(select_head(source, batch, head), rows, cols, mask, DIM, INT64_OFFSETS)
    index = pixel_index(rows, cols, head, width, heads, INT64_OFFSETS)
    store_vectors(target + batch * height * width * heads * DIM.size, index, mask, vectors, DIM)


@pytest.mark.parametrize("int64_offsets", [False, True])
@pytest.mark.parametrize("dim", [5, 16])
def test_vectors_of_any_strides_are_copied_exactly(dim, int64_offsets):
    source = torch.randn(dim, 3, 5, 2, 2).permute(4, 2, 1, 3, 0)
    target = torch.full((source.numel() + 100,), torch.nan)
    shape = (source.shape[1], source.shape[2])
    _copy_kernel[(2, 2)](strided(source), target, *shape, DIM=VectorDim(dim, 16), INT64_OFFSETS=int64_offsets)
    assert torch.equal(target[: source.numel()].view(source.shape), source)
    assert target[source.numel() :].isnan().all()


def test_masked_pixels_and_padding_are_not_read():
    around = torch.full((2, 4, 5, 2, 9), torch.nan)
    source = around[:, :3, :, :, 2:7]
    source.copy_(torch.randn(source.shape))
    target = torch.zeros(source.numel())
    _copy_kernel[(2, 2)](strided(source), target, 3, 5, DIM=VectorDim(5, 16), INT64_OFFSETS=False)
    assert torch.equal(target.view(source.shape), source)


def test_absent_operands_have_no_strides():
    assert strided(None) is None
    tensor = torch.empty(2, 3).T
    assert strided(tensor) == (tensor, (1, 3))


@pytest.mark.parametrize(("dim", "padded"), [(1, 16), (16, 16), (17, 32), (96, 128), (256, 256)])
def test_dims_are_padded_to_powers_of_two(dim, padded):
    assert addressing.padded_dim(dim) == padded
    assert addressing.vector_dim(torch.empty(2, dim)) == (dim, padded)


def test_large_images_need_int64_offsets():
    def image(stride):
        return torch.empty_strided((9, 2, 1, 1, 1), (2**40, stride, 0, 0, 0), device="meta")

    assert not addressing.needs_int64_offsets(None, image(2**31 - 1))
    assert addressing.needs_int64_offsets(image(1), image(2**31))
