"""Routed attention as an operator: autograd, compilation, export, autocast, backends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from attnzoo.kernels import exportable_operators, route_regions, routed_attention_2d, use_backend
from attnzoo.kernels.routing import cpu
from attnzoo.kernels.routing.operands import Operands
from attnzoo.kernels.routing.operator import routed_attention
from support.routing_cases import RoutingCase

_CASE = RoutingCase((2, 3), (3, 2), topk=2, batch=2, heads=2, dim=4, dim_v=3, repeats=True)
_MAP = torch.randn(2, 6, 8, 2, 4)


@contextlib.contextmanager
def _backend(name: str) -> Iterator[None]:
    with exportable_operators() if name == "exportable" else use_backend(name):
        yield


@pytest.mark.parametrize("backend", ["torch", "exportable"])
def test_gradients_match_the_definition(backend):
    results = []
    for name in (backend, "reference"):
        operands = _CASE.operands(torch.float64)
        with _backend(name):
            out = routed_attention_2d(**operands, routes=_CASE.routes(), num_regions=_CASE.grid)
        results.append((out, *torch.autograd.grad(out.sin().sum(), list(operands.values()))))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_gradients_by_finite_differences():
    operands = RoutingCase((2, 1), (1, 2), 1, dim=2, dim_v=3).operands(torch.float64)
    routes = torch.tensor([[[1, 0, 1], [1, 1, 1]]])

    def attention(query, key, value):
        return routed_attention_2d(query, key, value, routes, (2, 1))

    assert torch.autograd.gradcheck(attention, tuple(operands.values()))


def _arguments() -> tuple[Any, ...]:
    return (*_CASE.operands(torch.float32).values(), _CASE.routes(), list(_CASE.grid), 0.4, "auto")


def test_opcheck():
    arguments = _arguments()
    torch.library.opcheck(torch.ops.attnzoo.routed_attention_2d.default, arguments)
    with torch.no_grad():
        results = torch.ops.attnzoo.routed_attention_2d(*arguments)
    detached = [one.detach() if isinstance(one, torch.Tensor) else one for one in arguments]
    torch.library.opcheck(
        torch.ops.attnzoo.routed_attention_2d_backward.default,
        (torch.randn_like(results[0]), *detached[:4], *results, *detached[4:-1], [True] * 3, detached[-1]),
    )


@pytest.mark.parametrize(
    ("backend", "compiler"),
    [("auto", "aot_eager"), *(pytest.param(one, "inductor", marks=pytest.mark.slow) for one in ("auto", "reference"))],
)
def test_compiled_results_are_equal(backend, compiler):
    def attention(query, key, value):
        routes = route_regions(query, key, _CASE.grid, 3)
        return routed_attention_2d(query * 2, key, value.relu(), routes, _CASE.grid, backend=backend).sin()

    operands = _CASE.operands(torch.float32)
    results = []
    for run in (attention, torch.compile(attention, fullgraph=True, backend=compiler)):
        out = run(**operands)
        results.append((out, *torch.autograd.grad(out.sum(), list(operands.values()))))
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager)


def test_compiled_once_for_every_size():
    frames = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, dynamic=True, backend=frames)
    def attention(query):
        return routed_attention_2d(query, query, query, route_regions(query, query, (2, 3), 2), (2, 3))

    for size in ((3, 6, 9), (5, 8, 12), (7, 10, 15)):
        query = torch.randn(*size, 2, 4, requires_grad=True)
        out = attention(query)
        torch.testing.assert_close(
            out, routed_attention_2d(query, query, query, route_regions(query, query, (2, 3), 2), (2, 3))
        )
        out.sum().backward()
        assert query.grad is not None
    assert frames.frame_count == 1


class _Attention(torch.nn.Module):
    def forward(self, query: torch.Tensor) -> torch.Tensor:
        return routed_attention_2d(query, query, query, route_regions(query, query, 2, 2), 2)


def _targets(program: torch.export.ExportedProgram) -> list[str]:
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    names = [str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"]
    return [name for name in names if "getitem" not in name]


def test_export_keeps_one_node():
    query = torch.randn(2, 6, 8, 2, 4)
    height = 2 * torch.export.Dim("half", min=1)
    program = torch.export.export(_Attention(), (query,), dynamic_shapes={"query": {1: height}})
    names = _targets(program)
    assert names.count("attnzoo.routed_attention_2d.default") == 1
    assert all(name.startswith(("aten.", "attnzoo.", "<built-in")) for name in names)
    taller = torch.randn(2, 10, 8, 2, 4)
    assert torch.equal(program.module()(taller), _Attention()(taller))


def test_autocast_casts_operands():
    operands, routes = _CASE.operands(torch.float32), _CASE.routes()
    halves = {name: one.detach().bfloat16() for name, one in operands.items()}
    expected = routed_attention_2d(**halves, routes=routes, num_regions=_CASE.grid)
    for backend in ("torch", "reference", "exportable"):
        with torch.autocast("cpu", dtype=torch.bfloat16), _backend(backend):
            out = routed_attention_2d(**operands, routes=routes, num_regions=_CASE.grid)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, expected)
        gradients = torch.autograd.grad(out.float().sum(), list(operands.values()))
        assert all(one.dtype == torch.float32 for one in gradients)


def test_second_derivatives_need_the_reference():
    query = torch.randn(1, 2, 4, 1, 2, dtype=torch.float64, requires_grad=True)
    routes = torch.tensor([[[1], [0]]])
    out = routed_attention_2d(query, query, query, routes, (1, 2))
    (gradient,) = torch.autograd.grad(out.pow(2).sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match='use backend="reference"'):
        gradient.sum().backward()

    def attention(query):
        return routed_attention_2d(query, query, query, routes, (1, 2), backend="reference")

    small = torch.randn(1, 1, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(attention, (small,))


@pytest.mark.parametrize("wanted", [("query",), ("key",), ("value", "query")])
def test_some_operands_need_gradients(wanted):
    every = _CASE.operands(torch.float32)
    some = {name: one.detach().requires_grad_(name in wanted) for name, one in every.items()}
    results = []
    for one in (every, some):
        out = routed_attention_2d(**one, routes=_CASE.routes(), num_regions=_CASE.grid)
        results.append(torch.autograd.grad(out.sum(), [one[name] for name in wanted]))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_meta_tensors():
    operands = {name: one.detach().to("meta").requires_grad_() for name, one in _CASE.operands(torch.float16).items()}
    routes = route_regions(operands["query"], operands["key"], _CASE.grid, 2)
    out = routed_attention_2d(**operands, routes=routes, num_regions=_CASE.grid)
    assert (out.shape, out.dtype, out.device.type) == ((2, 6, 6, 2, 3), torch.float16, "meta")
    out.sum().backward()
    assert all(one.grad is not None and one.grad.shape == one.shape for one in operands.values())


@pytest.mark.parametrize("backend", ["torch", "reference", "exportable"])
def test_empty_batch(backend):
    query = torch.zeros(0, 6, 8, 2, 4, requires_grad=True)
    with _backend(backend):
        routes = route_regions(query, query, 2, 3)
        out = routed_attention_2d(query, query, query, routes, 2)
    assert (routes.shape, out.shape) == ((0, 4, 3), (0, 6, 8, 2, 4))
    out.sum().backward()
    assert query.grad is not None


def test_triton_on_a_cpu_raises(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r'backend="triton" cannot run here: .* cpu device'):
        routed_attention_2d(_MAP, _MAP, _MAP, torch.zeros(2, 1, 1, dtype=torch.int64), 1, backend="triton")


def test_float64_runs_in_plain_pytorch_on_a_gpu():
    class Double:
        """A stand-in for a CUDA tensor, with the attributes that the choice of a backend reads."""

        device = torch.device("cuda")
        dtype = torch.float64

    query: torch.Tensor = Double()  # pyright: ignore[reportAssignmentType] - a stand-in
    assert routed_attention.select_backend(Operands(query, query, query, query), "auto") is cpu
