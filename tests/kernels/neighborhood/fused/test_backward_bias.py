"""Gradient of the bias table, in Triton's interpreter."""

from __future__ import annotations

import functools
from unittest import mock

import pytest
import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.fused import backward_bias
from attnzoo.kernels.neighborhood.geometry import Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands

_GEOMETRY = Geometry(Neighborhood(2), Neighborhood(3))


def _gradient(batch: slice) -> torch.Tensor:
    """The gradient from some of 3 images."""
    draw = torch.Generator().manual_seed(0)
    query, key, value, grad_out = (torch.randn(3, 2, 3, 1, 4, generator=draw)[batch] for _ in range(4))
    operands = Operands(query, key, value, torch.randn(1, 3, 5, generator=draw))
    out, lse = fused.forward(operands, _GEOMETRY, 0.4)
    gradient = fused.backward(grad_out, None, operands, out, lse, _GEOMETRY, 0.4)[3]
    assert gradient is not None
    return gradient


@functools.cache
def _sum_of_images() -> torch.Tensor:
    return torch.stack([_gradient(slice(image, image + 1)) for image in range(3)]).sum(0)


@pytest.mark.parametrize(("images_per_chunk", "max_shares"), [(16, 32), (1, 2)])
def test_images_add_up_for_any_division_of_the_work(images_per_chunk, max_shares):
    expected = _sum_of_images()
    with (
        mock.patch.object(backward_bias, "_IMAGES_PER_CHUNK", images_per_chunk),
        mock.patch.object(backward_bias, "_MAX_SHARES", max_shares),
    ):
        torch.testing.assert_close(_gradient(slice(None)), expected, rtol=1e-4, atol=1e-5)


def test_a_constant_added_to_the_table_does_not_matter():
    gradient = _sum_of_images()
    assert gradient.abs().max() > 0.1
    assert gradient.sum().abs() < 1e-4


def test_no_images():
    assert not _gradient(slice(0)).any()
