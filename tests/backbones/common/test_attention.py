"""Dense attention: the formula, and the transforms that PyTorch's fused implementations do not support."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.func import grad, jvp, vmap

from attnzoo.backbones.common.attention import scaled_dot_product_attention


def operands(*leading: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(*leading, 2, 3, size, dim, generator=draw) for size, dim in ((5, 4), (6, 4), (6, 7))]


def by_definition(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | float = 0.0
) -> torch.Tensor:
    return (0.3 * query @ key.mT + bias).softmax(-1) @ value


@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 90).view(1, 3, 5, 6)])
def test_definition(bias: torch.Tensor | None):
    query, key, value = operands()
    found = scaled_dot_product_attention(query, key, value, bias, scale=0.3)
    torch.testing.assert_close(found, by_definition(query, key, value, 0.0 if bias is None else bias))


def test_transforms():
    def attention(*tensors: Any) -> torch.Tensor:
        return scaled_dot_product_attention(*tensors, scale=0.3)

    mapped = operands(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a missing batching rule
        torch.testing.assert_close(vmap(attention)(*mapped), by_definition(*mapped))
        per_sample = vmap(grad(lambda *tensors: attention(*tensors).square().sum()))(*mapped)
    expected = grad(lambda query: by_definition(query, *mapped[1:]).square().sum())(mapped[0])
    torch.testing.assert_close(per_sample, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_forward_mode():
    tensors = tuple(operands())
    results = [
        jvp(function, tensors, tensors)
        for function in (lambda *given: scaled_dot_product_attention(*given, scale=0.3), by_definition)
    ]
    torch.testing.assert_close(*results)
