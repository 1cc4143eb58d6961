"""torch.func on the public functions: gradients, mapped calls and both together equal what loops return."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

from attnzoo.kernels import neighborhood_attention_2d, route_regions, routed_attention_2d, use_backend
from attnzoo.kernels.operators import Operator

Tensors = tuple[torch.Tensor, ...]


def neighborhood(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor) -> torch.Tensor:
    return neighborhood_attention_2d(query, key, value, 2, rpb=rpb)


def neighborhood_without_bias(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return neighborhood_attention_2d(query, key, value, 2)


def routed(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return routed_attention_2d(query, key, value, route_regions(query, key, 2, 2), 2)


FUNCTIONS = {"bias": neighborhood, "no bias": neighborhood_without_bias, "routes": routed}


def operands(function: Callable[..., torch.Tensor], *leading: int) -> Tensors:
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(*leading, 2, 4, 4, 2, 3, generator=draw).double() for _ in range(3)]
    return (*maps, torch.randn(*leading, 2, 3, 3, generator=draw).double()) if function is neighborhood else (*maps,)


def loss(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda *tensors: function(*tensors).sin().sum()


def gradients(function: Callable[..., torch.Tensor], tensors: Tensors) -> Tensors:
    leaves = [one.clone().requires_grad_() for one in tensors]
    return torch.autograd.grad(loss(function)(*leaves), leaves)


@pytest.mark.parametrize("name", list(FUNCTIONS))
class TestTransforms:
    def test_grad(self, name: str):
        function = FUNCTIONS[name]
        tensors = operands(function)
        found = grad(loss(function), argnums=tuple(range(len(tensors))))(*tensors)
        torch.testing.assert_close(found, gradients(function, tensors))

    @pytest.mark.parametrize("mapped", ["all", "query", "last"])
    def test_vmap(self, name: str, mapped: str):
        function = FUNCTIONS[name]
        tensors = list(operands(function, 3))
        dims: list[int | None] = [0] * len(tensors)
        if mapped != "all":
            kept = 0 if mapped == "query" else len(tensors) - 1
            tensors = [one if place == kept else one[0] for place, one in enumerate(tensors)]
            dims = [0 if place == kept else None for place in range(len(tensors))]
        single = [
            [one if dim is None else one[index] for one, dim in zip(tensors, dims, strict=True)] for index in range(3)
        ]
        found = vmap(function, tuple(dims))(*tensors)
        torch.testing.assert_close(found, torch.stack([function(*one) for one in single]))
        found = vmap(function, tuple(dims), out_dims=-1)(*tensors)
        assert found.shape[-1] == 3

    def test_gradients_per_sample(self, name: str):
        function = FUNCTIONS[name]
        tensors = operands(function, 3)
        shared = len(tensors) - 1
        dims = tuple(None if place == shared else 0 for place in range(len(tensors)))
        given = (*tensors[:-1], tensors[-1][0])
        found = vmap(grad(loss(function), argnums=tuple(range(len(given)))), dims)(*given)
        for index in range(3):
            expected = gradients(function, (*(one[index] for one in tensors[:-1]), tensors[-1][0]))
            torch.testing.assert_close(tuple(one[index] for one in found), expected)

    def test_gradient_of_mapped_calls(self, name: str):
        function = FUNCTIONS[name]
        tensors = operands(function, 3)
        found = grad(lambda *given: vmap(loss(function))(*given).sum(), argnums=tuple(range(len(tensors))))(*tensors)
        for index in range(3):
            expected = gradients(function, tuple(one[index] for one in tensors))
            torch.testing.assert_close(tuple(one[index] for one in found), expected)

    def test_forward_mode(self, name: str):
        function = FUNCTIONS[name]
        tensors = operands(function)
        tangents = tuple(one.cos() for one in tensors)
        out, found = jvp(function, tensors, tangents)[:2]
        torch.testing.assert_close(out, function(*tensors))
        step = 1e-6
        ends = [
            function(*(one + sign * step * t for one, t in zip(tensors, tangents, strict=True))) for sign in (1, -1)
        ]
        torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)

    def test_second_derivatives_need_the_reference(self, name: str):
        function = FUNCTIONS[name]
        query, *others = operands(function)

        def second(backend: str) -> torch.Tensor:
            with use_backend(backend):
                return grad(lambda query: grad(loss(function))(query, *others).sum())(query)

        with pytest.raises(RuntimeError, match=r'cannot be differentiated again. .* backend="reference"'):
            second("auto")
        assert second("reference").abs().sum() > 0


class _Operands(NamedTuple):
    x: torch.Tensor
    weight: torch.Tensor


class _Outer(Operator[_Operands]):
    """An operation without a batch dimension: x[:, None] * weight."""

    name = "test_outer"
    operands = _Operands
    settings = "int count"
    outputs = ("y",)

    def encode(self, count: int) -> tuple[int]:
        return (count,)

    def decode(self, count: int) -> tuple[int]:
        return (count,)

    def select_backend(self, operands: _Operands, backend: str) -> ModuleType:
        def backward(grad: Any, operands: Any, y: Any, count: int, needed: Any) -> Tensors:
            return (grad * operands.weight).sum(1), (grad * operands.x[:, None]).sum(0)

        def forward(operands: Any, count: int) -> Tensors:
            assert operands.x.shape == (count,)
            return (operands.x[:, None] * operands.weight,)

        return cast(Any, SimpleNamespace(forward=forward, backward=backward))

    def fake_outputs(self, operands: _Operands) -> tuple[torch.Tensor]:
        return (operands.x.new_empty((len(operands.x), len(operands.weight))),)


def test_operations_without_a_batch_dimension_run_once_per_sample():
    outer = _Outer()
    x, weight = torch.arange(6.0).view(2, 3), torch.arange(8.0).view(2, 4)
    found = vmap(lambda x, weight: outer(_Operands(x, weight), 3)[0])(x, weight)
    torch.testing.assert_close(found, x[:, :, None] * weight[:, None])
    jacobian = jacrev(lambda x: outer(_Operands(x, weight[1]), 3)[0])(x[1])
    torch.testing.assert_close(jacobian, torch.eye(3)[:, None] * weight[1][:, None])


@pytest.mark.parametrize("transform", [grad, vmap])
def test_compiled_transforms_use_operators_of_pytorch(transform: Any):
    query = operands(neighborhood, 3)[0] if transform is vmap else operands(neighborhood)[0]
    function = transform(lambda query: neighborhood_attention_2d(query, query, query, 2).sin().sum())
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(query), function(query))
