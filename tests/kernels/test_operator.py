"""Ranged attention as an operator of torch's: autograd, compilation, export, autocast, operation counts, backends."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.kernels import dispatch, neighborhood_attention_2d, plain_operators, use_backend
from attnzoo.kernels.neighborhood import fused, operator, ranged_attention_2d
from attnzoo.kernels.neighborhood.geometry import Blocks, Neighborhood, encode_rule
from support.attention_cases import AttentionCase, Axis

_AXIS = Axis(Neighborhood(3), 8, 8)
_CASE = AttentionCase(
    _AXIS, _AXIS, batch=2, heads_kv=2, group=2, has_rpb=True, tokens=2, has_row_terms=True, has_col_terms=True
)
_BIASES = ("rpb", "row_terms", "col_terms")
_OPTIONS = [
    _CASE,
    AttentionCase(_AXIS, Axis(Neighborhood(2, 2, 2, True), 7, 7), dim=3, dim_v=5),
    AttentionCase(Axis(Blocks(4, 1, 2), 4, 8), Axis(Blocks(2, 2, clip=True), 6, 6), has_rpb=True),
    AttentionCase(Axis(Blocks(4, 1, 2, shift=2), 4, 7), Axis(Blocks(3), 7, 7), has_row_terms=True, has_col_terms=True),
]


def _operator_arguments(case: AttentionCase) -> tuple:
    operands = case.operands(torch.float32)
    names = ("query", "key", "value", "rpb", "row_terms", "col_terms", "additional_keys", "additional_values")
    rules = (encode_rule(case.rows.rule), encode_rule(case.cols.rule))
    return (*(operands.get(name) for name in names), *rules, 0.4, "auto")


@pytest.mark.parametrize("case", _OPTIONS, ids=["everything", "causal", "blocks", "terms"])
def test_opcheck(case):
    arguments = _operator_arguments(case)
    torch.library.opcheck(torch.ops.attnzoo.ranged_attention_2d.default, arguments)
    with torch.no_grad():
        results = torch.ops.attnzoo.ranged_attention_2d(*arguments)
    detached = [one.detach() if isinstance(one, torch.Tensor) else one for one in arguments]
    backward = torch.ops.attnzoo.ranged_attention_2d_backward.default
    for grad_lse in (None, torch.randn_like(results[1])):
        torch.library.opcheck(
            backward, (torch.randn_like(results[0]), grad_lse, *detached[:8], *results, *detached[8:])
        )


@pytest.mark.parametrize("backend", ["auto", pytest.param("reference", marks=pytest.mark.slow)])
def test_compiled_results_are_equal(backend):
    def attention(**operands):
        return ranged_attention_2d(**operands, rows=_AXIS.rule, cols=_AXIS.rule, return_lse=True, backend=backend)

    operands = _CASE.operands(torch.float32)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    results = []
    for run in (attention, compiled):
        out, lse = run(**operands)
        results.append((out, lse, *torch.autograd.grad(out.sin().sum() + lse.sum(), list(operands.values()))))
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager)


def test_compiled_once_for_every_size():
    frames = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, dynamic=True, backend=frames)
    def attention(query, rpb):
        return neighborhood_attention_2d(query, query, query, 5, rpb=rpb)

    rpb = torch.randn(2, 9, 9, requires_grad=True)
    for size in ((3, 10, 11), (5, 12, 7), (4, 6, 15)):
        query = torch.randn(*size, 2, 4, requires_grad=True)
        out = attention(query, rpb)
        torch.testing.assert_close(out, neighborhood_attention_2d(query, query, query, 5, rpb=rpb))
        out.sum().backward()
        assert query.grad is not None
        assert query.grad.abs().sum() > 0
    assert frames.frame_count == 1


@pytest.mark.slow
def test_compiled_by_inductor():
    @torch.compile(fullgraph=True)
    def attention(query, key, value, rpb):
        return neighborhood_attention_2d(query * 2, key + 1, value.relu(), 3, rpb=rpb).sin()

    operands = [torch.randn(2, 8, 9, 2, 4, requires_grad=True) for _ in range(3)]
    operands.append(torch.randn(2, 5, 5, requires_grad=True))
    results = []
    for run in (attention, attention._torchdynamo_orig_callable):
        out = run(*operands)
        results.append((out, *torch.autograd.grad(out.sum(), operands)))
    for traced, eager in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager)


class _Attention(torch.nn.Module):
    def forward(self, query: torch.Tensor, rpb: torch.Tensor) -> torch.Tensor:
        return neighborhood_attention_2d(query, query, query, 3, rpb=rpb)


def _targets(program: torch.export.ExportedProgram) -> list[str]:
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    return [str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"]


def test_export_keeps_one_node():
    query, rpb = torch.randn(2, 7, 8, 2, 4), torch.randn(2, 5, 5)
    height = torch.export.Dim("height", min=3)
    program = torch.export.export(_Attention(), (query, rpb), dynamic_shapes={"query": {1: height}, "rpb": None})
    for exported in (program, program.run_decompositions()):
        targets = [name for name in _targets(exported) if "getitem" not in name]
        assert targets == ["attnzoo.ranged_attention_2d.default"]
    taller = torch.randn(2, 11, 8, 2, 4)
    assert torch.equal(program.module()(taller, rpb), _Attention()(taller, rpb))


@contextlib.contextmanager
def _onnx_export(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    yield


@pytest.mark.parametrize("way", ["asked for", "onnx"])
def test_plain_operators_are_traced(way, monkeypatch):
    query, rpb = torch.randn(2, 7, 8, 2, 4), torch.randn(2, 5, 5)
    with plain_operators() if way == "asked for" else _onnx_export(monkeypatch):
        program = torch.export.export(_Attention(), (query, rpb))
    targets = _targets(program)
    assert targets
    assert all(name.startswith("aten.") for name in targets)
    monkeypatch.undo()
    torch.testing.assert_close(program.module()(query, rpb), _Attention()(query, rpb))


def test_autocast_casts_operands_and_keeps_float32_where_it_counts():
    operands = _CASE.operands(torch.float32)
    rules: dict[str, Any] = {"rows": _AXIS.rule, "cols": _AXIS.rule}
    for backend in ("torch", "reference"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out, lse = ranged_attention_2d(**operands, **rules, return_lse=True, backend=backend)
        assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
        rounded = {
            name: one.detach().clone() if name in _BIASES else one.detach().bfloat16() for name, one in operands.items()
        }
        expected, expected_lse = ranged_attention_2d(**rounded, **rules, return_lse=True, backend="torch")
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(lse, expected_lse)
        gradients = torch.autograd.grad(out.float().sum() + lse.sum(), list(operands.values()))
        assert all(one.dtype == torch.float32 for one in gradients)


def test_autocast_leaves_the_backward_pass_alone():
    """A backward pass inside autocast gives what it gives outside."""
    operands = _CASE.operands(torch.float32)
    out = ranged_attention_2d(**operands, rows=_AXIS.rule, cols=_AXIS.rule)
    assert isinstance(out, torch.Tensor)
    expected = torch.autograd.grad(out.sum(), list(operands.values()), retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = torch.autograd.grad(out.sum(), list(operands.values()))
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_count_visible_pairs(device):
    query = torch.randn(2, 14, 14, 4, 8, device=device, requires_grad=True)
    key, value = (torch.randn(2, 14, 14, 2, dim, device=device, requires_grad=True) for dim in (8, 6))
    tokens = torch.randn(2, 3, 2, 8, device=device), torch.randn(2, 3, 2, 6, device=device)
    with FlopCounterMode(display=False) as counter:
        out = neighborhood_attention_2d(query, key, value, 7, additional_keys=tokens[0], additional_values=tokens[1])
        pairs = 2 * 4 * 14 * 14 * (7 * 7 + 3)
        assert counter.get_total_flops() == 2 * pairs * (8 + 6)
        out.sum().backward()
        assert counter.get_total_flops() == 2 * pairs * ((8 + 6) + (3 * 8 + 2 * 6))


def test_flops_of_causal_windows_and_clipped_blocks():
    query = torch.randn(1, 6, 8, 1, 4, device="meta")
    with FlopCounterMode(display=False) as counter:
        ranged_attention_2d(query, query, query, Neighborhood(3, is_causal=True), Blocks(4, halo=1, clip=True))
    rows, cols = 1 + 2 + 3 * 4, 8 * 5
    assert counter.get_total_flops() == 2 * rows * cols * 8


def test_second_derivatives_are_refused_by_the_operator_and_right_in_the_reference():
    query = torch.randn(1, 5, 5, 1, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        neighborhood_attention_2d(query, query, query, 3).pow(2).sum(), query, create_graph=True
    )
    with pytest.raises(RuntimeError, match='use backend="reference"'):
        gradient.sum().backward()

    def attention(query):
        return neighborhood_attention_2d(query, query, query, 3, backend="reference")

    assert torch.autograd.gradgradcheck(
        attention, (torch.randn(1, 3, 3, 1, 1, dtype=torch.float64, requires_grad=True),)
    )


def test_only_the_logarithms_are_differentiated():
    operands = [_CASE.operands(torch.float64) for _ in range(2)]
    gradients = []
    for one, backend in zip(operands, ("torch", "reference"), strict=True):
        _, lse = ranged_attention_2d(**one, rows=_AXIS.rule, cols=_AXIS.rule, return_lse=True, backend=backend)
        gradients.append(torch.autograd.grad(lse.sin().sum(), list(one.values()), allow_unused=True))
    for actual, expected, name in zip(*gradients, operands[0], strict=True):
        if expected is None:
            assert "value" in name
            assert actual is None or not actual.any()
        else:
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("wanted", [("query",), ("rpb",), ("value", "additional_keys")])
def test_some_operands_need_gradients(wanted):
    operands = {
        name: one.detach().requires_grad_(name in wanted) for name, one in _CASE.operands(torch.float32).items()
    }
    all_operands = _CASE.operands(torch.float32)
    results = []
    for one in (operands, all_operands):
        out = ranged_attention_2d(**one, rows=_AXIS.rule, cols=_AXIS.rule)
        assert isinstance(out, torch.Tensor)
        results.append(torch.autograd.grad(out.sum(), [one[name] for name in wanted]))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_meta_tensors_give_shapes():
    operands = {name: one.detach().to("meta").requires_grad_() for name, one in _CASE.operands(torch.float16).items()}
    out, lse = ranged_attention_2d(**operands, rows=_AXIS.rule, cols=_AXIS.rule, return_lse=True)
    assert (out.shape, out.dtype, out.device.type) == ((2, 8, 8, 4, 4), torch.float16, "meta")
    assert (lse.shape, lse.dtype) == ((2, 8, 8, 4), torch.float32)
    out.sum().backward()
    assert all(one.grad is not None and one.grad.shape == one.shape for one in operands.values())


@pytest.mark.parametrize("backend", ["torch", "reference", "plain"])
def test_empty_batch(backend):
    query = torch.zeros(0, 7, 8, 2, 4, requires_grad=True)
    rpb = torch.zeros(2, 5, 5, requires_grad=True)
    with plain_operators() if backend == "plain" else use_backend(backend):
        out, lse = neighborhood_attention_2d(query, query, query, 3, rpb=rpb, return_lse=True)
    assert (out.shape, lse.shape) == ((0, 7, 8, 2, 4), (0, 7, 8, 2))
    out.sum().backward()
    assert query.grad is not None
    assert query.grad.shape == query.shape
    assert rpb.grad is not None
    assert not rpb.grad.any()


def test_no_additional_tokens_are_none():
    query = torch.randn(2, 7, 8, 2, 4)
    none = torch.zeros(2, 0, 2, 4)
    actual = neighborhood_attention_2d(query, query, query, 3, additional_keys=none, additional_values=none)
    torch.testing.assert_close(actual, neighborhood_attention_2d(query, query, query, 3))


def test_vmap_loops_over_the_operator():
    """Works, one call after the other, with torch's warning about it."""
    queries = torch.randn(3, 1, 5, 6, 1, 2)
    actual = torch.vmap(lambda query: neighborhood_attention_2d(query, query, query, 3))(queries)
    expected = torch.stack([neighborhood_attention_2d(query, query, query, 3) for query in queries])
    assert torch.equal(actual, expected)


def test_function_transforms_that_differentiate_are_refused():
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda query: neighborhood_attention_2d(query, query, query, 3).sum())(
            torch.randn(1, 5, 5, 1, 2)
        )


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_default_device_and_fake_tensors_leave_nothing_behind(backend):
    """Tables are kept over calls, so nothing of the first call's surroundings may stay in them."""
    query = torch.randn(1, 13, 17, 1, 3)

    def attention(kernel_size):
        return neighborhood_attention_2d(query, query, query, kernel_size, 2, (3, 2), backend=backend)

    with torch.device("meta"):
        first = attention((4, 5))
    with FakeTensorMode(allow_non_fake_inputs=True):
        attention((4, 6))
    for kernel_size in ((4, 5), (4, 6)):
        expected = neighborhood_attention_2d(query, query, query, kernel_size, 2, (3, 2), backend="reference")
        torch.testing.assert_close(attention(kernel_size), expected)
    assert torch.equal(first, attention((4, 5)))


def test_triton_on_a_cpu_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    query = torch.randn(1, 5, 5, 1, 2)
    with pytest.raises(ValueError, match=r'backend="triton" cannot run here: .* cpu device'):
        neighborhood_attention_2d(query, query, query, 3, backend="triton")
    with use_backend("triton"), pytest.raises(ValueError, match="cannot run here"):
        neighborhood_attention_2d(query, query, query, 3)


class _OnCuda:
    """As much of a CUDA tensor as the choice of an implementation looks at."""

    device = torch.device("cuda")
    dtype = torch.float32
    shape = (1, 7, 7, 1, 32)


@pytest.mark.parametrize(("missing", "advice"), [("compiler", "apt-get install gcc"), ("triton", "pip install triton")])
def test_what_triton_lacks_is_said_once(missing, advice, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(dispatch.shutil, "which", lambda name: None)
    monkeypatch.setattr(dispatch, "_has_triton", lambda: missing != "triton")
    dispatch._warn_once.cache_clear()
    query: torch.Tensor = _OnCuda()  # pyright: ignore[reportAssignmentType] - a stand-in
    with pytest.warns(RuntimeWarning, match=advice):
        assert operator._implementation(query, query, "auto") is operator.cpu
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert operator._implementation(query, query, "auto") is operator.cpu
        assert operator._implementation(query, query, "torch") is operator.cpu
    with pytest.raises(ValueError, match=advice):
        operator._implementation(query, query, "triton")


def test_float64_stays_with_plain_pytorch_on_a_gpu():
    class Double(_OnCuda):
        dtype = torch.float64

    query: torch.Tensor = Double()  # pyright: ignore[reportAssignmentType] - a stand-in
    assert operator._implementation(query, query, "auto") is operator.cpu


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 128), (torch.bfloat16, 256)])
def test_long_vectors_stay_with_plain_pytorch_on_a_gpu(dtype, largest, monkeypatch):
    monkeypatch.setenv("CC", "cc")
    longer = {"dtype": dtype, "shape": (1, 7, 7, 1, largest + 1)}
    short, long = (cast(Any, type("_Tensor", (_OnCuda,), one)()) for one in ({"dtype": dtype}, longer))
    for query, value in ((long, short), (short, long)):
        assert operator._implementation(query, value, "auto") is operator.cpu
        assert operator._implementation(query, value, "triton") is fused
    assert operator._implementation(short, short, "auto") is fused
