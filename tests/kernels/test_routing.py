"""Routing and routed attention: the definition, the choice of regions, arguments, the operator of torch's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.kernels import plain_operators, route_regions, routed_attention_2d, use_backend
from attnzoo.kernels.routing import geometry as regions
from attnzoo.kernels.routing import operator
from support.routing_cases import RoutingCase

_CASE = RoutingCase((2, 3), (3, 2), topk=2, batch=2, heads=2, dim=4, dim_v=3, repeats=True)
_MAP = torch.randn(2, 6, 8, 2, 4)


@contextlib.contextmanager
def _backend(name: str) -> Iterator[None]:
    with plain_operators() if name == "plain" else use_backend(name):
        yield


def _looked_up(query, key, value, routes, rows, cols, scale):
    """Attention one query at a time, from what the operation is said to be."""
    batch, height, width, heads, _ = query.shape
    out = torch.zeros(batch, height, width, heads, value.shape[4], dtype=query.dtype)
    tall, wide = height // rows, width // cols
    for image in range(batch):
        for y in range(height):
            for x in range(width):
                tops = [
                    (int(one) // cols * tall, int(one) % cols * wide)
                    for one in routes[image, y // tall * cols + x // wide]
                ]
                keys, values = (
                    torch.cat([one[image, top : top + tall, left : left + wide].flatten(0, 1) for top, left in tops])
                    for one in (key, value)
                )
                for head in range(heads):
                    weights = (scale * keys[:, head] @ query[image, y, x, head]).softmax(0)
                    out[image, y, x, head] = weights @ values[:, head]
    return out


@pytest.mark.parametrize("backend", ["reference", "torch", "plain"])
def test_every_query_sees_the_keys_of_its_regions_routes(backend):
    operands, routes = _CASE.operands(torch.float64), _CASE.routes()
    expected = _looked_up(**operands, routes=routes, rows=2, cols=3, scale=0.4)
    with _backend(backend):
        actual = routed_attention_2d(**operands, routes=routes, num_regions=_CASE.grid, scale=0.4)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("backend", ["torch", "plain"])
def test_gradients_are_those_of_the_definition(backend):
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


def test_a_repeated_region_counts_twice():
    operands = RoutingCase((1, 2), (2, 2), 1, dim=3).operands(torch.float64)
    once, twice = torch.tensor([[[0, 1], [1, 0]]]), torch.tensor([[[0, 1, 1], [1, 0, 0]]])
    doubled = {}
    for backend in ("torch", "reference"):
        doubled[backend] = routed_attention_2d(**operands, routes=twice, num_regions=(1, 2), backend=backend)
        assert not torch.allclose(doubled[backend], routed_attention_2d(**operands, routes=once, num_regions=(1, 2)))
    torch.testing.assert_close(doubled["torch"], doubled["reference"])


def test_all_regions_are_full_attention():
    query, key, value = (torch.randn(2, 6, 6, 2, 8, dtype=torch.float64) for _ in range(3))
    routes = route_regions(query, key, 3, 9)
    flat = [one.flatten(1, 2).transpose(1, 2) for one in (query, key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(flat[0], flat[1], flat[2])
    expected = expected.transpose(1, 2).view_as(query)
    torch.testing.assert_close(routed_attention_2d(query, key, value, routes, 3), expected)


def test_routes_name_the_regions_with_the_largest_products_of_means():
    query, key = (torch.randn(2, 6, 8, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    routes = route_regions(query, key, (3, 2), 4)
    assert (routes.shape, routes.dtype, routes.requires_grad) == ((2, 6, 4), torch.int64, False)
    for image in range(2):
        means = [
            [one[image, 2 * (i // 2) : 2 * (i // 2) + 2, 4 * (i % 2) : 4 * (i % 2) + 4].mean((0, 1)) for i in range(6)]
            for one in (query, key)
        ]
        for i in range(6):
            products = [(means[0][i] * means[1][j]).sum().item() for j in range(6)]
            assert routes[image, i].tolist() == sorted(range(6), key=lambda j: -products[j])[:4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [3, 9])
def test_of_equal_products_the_lower_region_goes_first(size, dtype):
    """Also where there are so many that an unstable sort would show."""
    regions = size * size
    query, key = torch.ones(1, size, size, 1, 1, dtype=dtype), torch.ones(1, size, size, 1, 1, dtype=dtype)
    assert route_regions(query, key, size, regions).tolist() == [[list(range(regions))] * regions]
    key[0, 1, 1] = 2
    better = size + 1
    expected = [better, *(one for one in range(regions) if one != better)]
    assert route_regions(query, key, size, regions)[0, 0].tolist() == expected


@pytest.mark.parametrize("most", [1, 100, 1 << 24])
def test_counts_of_routes_do_not_depend_on_how_many_are_compared_at_a_time(most, monkeypatch):
    monkeypatch.setattr(regions, "_MOST_COMPARISONS", most)
    routes = torch.tensor([[[0, 0, 1], [2, 1, 2], [1, 1, 1]], [[2, 0, 1], [0, 0, 0], [1, 2, 2]]])
    counts = [[[2, 1, 0], [0, 1, 2], [0, 3, 0]], [[1, 1, 1], [3, 0, 0], [0, 1, 2]]]
    assert regions.times_seen(routes, 3).tolist() == counts


def test_routing_under_autocast_is_in_float32():
    query, key = torch.randn(2, 2, 28, 28, 2, 32).unbind(0)
    expected = route_regions(query, key, 7, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(route_regions(query, key, 7, 4), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_regions": 0}, "num_regions must be a positive int or a pair of them .* but is 0"),
        ({"num_regions": (2, 2, 2)}, "num_regions must be a positive int or a pair"),
        ({"num_regions": 2.0}, "num_regions must be a positive int or a pair"),
        ({"num_regions": (4, 2)}, "the height must be a multiple of its number of regions, but 4 does not divide 6"),
        ({"num_regions": (2, 3)}, "the width must be a multiple of its number of regions, but 3 does not divide 8"),
        ({"topk": 0}, "topk must be an int from 1 to the number of regions, 4, but is 0"),
        ({"topk": 5}, "topk must be .* but is 5"),
        ({"topk": 1.0}, "topk must be .* but is 1.0"),
        ({"query": _MAP[0]}, r"query must have the shape \(batch, height, width, heads, dim\)"),
        ({"key": _MAP[:, :3]}, "key must have the query's shape"),
        ({"key": _MAP.double()}, "key must have the query's dtype and device"),
        ({"query": _MAP.int(), "key": _MAP.int()}, "but are torch.int32"),
        ({"query": _MAP[..., :0], "key": _MAP[..., :0]}, "dim must be at least 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # tensors are others in every process
)
def test_wrong_arguments_of_routing_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        route_regions(**{"query": _MAP, "key": _MAP, "num_regions": 2, "topk": 1} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_regions": 4}, "4 does not divide 6"),
        ({"value": _MAP[:, :3]}, "value must agree with the query in all but dim"),
        ({"value": _MAP[..., :0]}, "the value's dim must be at least 1"),
        ({"key": _MAP[..., :3]}, "key must have the query's shape"),
        ({"routes": torch.zeros(2, 5, 1, dtype=torch.int64)}, r"routes must have the shape .* \(2, 4, 1 or more\)"),
        ({"routes": torch.zeros(2, 4, 0, dtype=torch.int64)}, "routes must have the shape"),
        ({"routes": torch.zeros(2, 4, dtype=torch.int64)}, "routes must have the shape"),
        ({"routes": torch.zeros(2, 4, 1, dtype=torch.int32)}, "routes must be int64 on the query's device, cpu"),
        ({"routes": torch.zeros(2, 4, 1, dtype=torch.int64, device="meta")}, "routes must be int64 on"),
        ({"routes": torch.full((2, 4, 1), 4)}, "routes must name regions 0 to 3, but hold 4"),
        ({"routes": torch.full((2, 4, 1), -1)}, "routes must name regions 0 to 3, but hold -1"),
        ({"routes": torch.full((2, 4, 1), 4), "backend": "reference"}, "but hold 4"),
        ({"backend": "tritn"}, "There is no backend 'tritn'. Did you mean 'triton'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # tensors are others in every process
)
def test_wrong_arguments_of_attention_are_named(arguments, message):
    routes = torch.zeros(2, 4, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        routed_attention_2d(
            **{"query": _MAP, "key": _MAP, "value": _MAP, "routes": routes, "num_regions": 2} | arguments
        )


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
        (torch.randn_like(results[0]), *detached[:4], *results, *detached[4:]),
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


@pytest.mark.parametrize("way", ["asked for", "onnx"])
def test_plain_operators_are_traced(way, monkeypatch):
    query = torch.randn(2, 6, 8, 2, 4)
    if way == "onnx":
        monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with plain_operators() if way == "asked for" else contextlib.nullcontext():
        program = torch.export.export(_Attention(), (query,))
    assert all(name.startswith("aten.") for name in _targets(program))
    monkeypatch.undo()
    torch.testing.assert_close(program.module()(query), _Attention()(query))


def test_autocast_casts_operands():
    operands, routes = _CASE.operands(torch.float32), _CASE.routes()
    halves = {name: one.detach().bfloat16() for name, one in operands.items()}
    expected = routed_attention_2d(**halves, routes=routes, num_regions=_CASE.grid)
    for backend in ("torch", "reference", "plain"):
        with torch.autocast("cpu", dtype=torch.bfloat16), _backend(backend):
            out = routed_attention_2d(**operands, routes=routes, num_regions=_CASE.grid)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, expected)
        gradients = torch.autograd.grad(out.float().sum(), list(operands.values()))
        assert all(one.dtype == torch.float32 for one in gradients)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_count_visible_pairs(device):
    query, key = (torch.randn(2, 14, 14, 4, 8, device=device, requires_grad=True) for _ in range(2))
    value = torch.randn(2, 14, 14, 4, 6, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        out = routed_attention_2d(query, key, value, torch.zeros(2, 49, 3, dtype=torch.int64, device=device), 7)
        pairs = 2 * 4 * 14 * 14 * (3 * 4)
        assert counter.get_total_flops() == 2 * pairs * (8 + 6)
        out.sum().backward()
        assert counter.get_total_flops() == 2 * pairs * ((8 + 6) + (3 * 8 + 2 * 6))


def test_second_derivatives_are_refused_by_the_operator_and_right_in_the_reference():
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


def test_meta_tensors_give_shapes():
    operands = {name: one.detach().to("meta").requires_grad_() for name, one in _CASE.operands(torch.float16).items()}
    routes = route_regions(operands["query"], operands["key"], _CASE.grid, 2)
    out = routed_attention_2d(**operands, routes=routes, num_regions=_CASE.grid)
    assert (out.shape, out.dtype, out.device.type) == ((2, 6, 6, 2, 3), torch.float16, "meta")
    out.sum().backward()
    assert all(one.grad is not None and one.grad.shape == one.shape for one in operands.values())


@pytest.mark.parametrize("backend", ["torch", "reference", "plain"])
def test_empty_batch(backend):
    query = torch.zeros(0, 6, 8, 2, 4, requires_grad=True)
    with _backend(backend):
        routes = route_regions(query, query, 2, 3)
        out = routed_attention_2d(query, query, query, routes, 2)
    assert (routes.shape, out.shape) == ((0, 4, 3), (0, 6, 8, 2, 4))
    out.sum().backward()
    assert query.grad is not None


def test_function_transforms_that_differentiate_are_refused():
    routes = torch.zeros(1, 1, 1, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda query: routed_attention_2d(query, query, query, routes, 1).sum())(_MAP[:1])


def test_triton_on_a_cpu_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r'backend="triton" cannot run here: .* cpu device'):
        routed_attention_2d(_MAP, _MAP, _MAP, torch.zeros(2, 1, 1, dtype=torch.int64), 1, backend="triton")


def test_float64_stays_with_plain_pytorch_on_a_gpu():
    class Double:
        """As much of a CUDA tensor as the choice of an implementation looks at."""

        device = torch.device("cuda")
        dtype = torch.float64

    query: torch.Tensor = Double()  # pyright: ignore[reportAssignmentType] - a stand-in
    assert operator._implementation(query, "auto") is operator.cpu


def test_routing_needs_torch_alone():
    program = (
        "import sys, torch\n"
        "for name in ('triton', 'timm', 'mmengine', 'cv2', 'albumentations'):\n"
        "    sys.modules[name] = None\n"
        "from attnzoo.kernels import route_regions, routed_attention_2d\n"
        "query = torch.randn(1, 4, 4, 1, 2, requires_grad=True)\n"
        "routed_attention_2d(query, query, query, route_regions(query, query, 2, 1), 2).sum().backward()\n"
        "print(query.grad.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 4, 4, 1, 2])" in done.stdout
