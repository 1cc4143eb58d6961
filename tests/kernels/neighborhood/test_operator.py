"""Ranged attention as an operator: autograd, compilation, export, autocast, backends."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode

from attnzoo.kernels import (
    exportable_operators,
    halo_attention_2d,
    neighborhood_attention_2d,
    use_backend,
    window_attention_2d,
)
from attnzoo.kernels.neighborhood import cpu, fused, ranged_attention_2d
from attnzoo.kernels.neighborhood.geometry import Blocks, Neighborhood, encode_rule
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.neighborhood.operator import ranged_attention
from attnzoo.kernels.triton_common import checks
from attnzoo.kernels.triton_common.tile_sizes import DeviceLimits
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
    for grad_lse, needed in ((None, [True] * 8), (torch.randn_like(results[1]), [True, False] * 4)):
        saved = (grad_lse, *detached[:8], *results, *detached[8:-1])
        torch.library.opcheck(backward, (torch.randn_like(results[0]), *saved, needed, detached[-1]))


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


def test_autocast_casts_operands_but_not_biases_and_log_sum_exps():
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


def test_autocast_does_not_change_the_backward_pass():
    """A backward pass inside autocast computes the same gradients as outside."""
    operands = _CASE.operands(torch.float32)
    out = ranged_attention_2d(**operands, rows=_AXIS.rule, cols=_AXIS.rule)
    assert isinstance(out, torch.Tensor)
    expected = torch.autograd.grad(out.sum(), list(operands.values()), retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = torch.autograd.grad(out.sum(), list(operands.values()))
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


def test_second_derivatives_need_the_reference():
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


def test_gradients_of_log_sum_exps_alone():
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


def test_meta_tensors():
    operands = {name: one.detach().to("meta").requires_grad_() for name, one in _CASE.operands(torch.float16).items()}
    out, lse = ranged_attention_2d(**operands, rows=_AXIS.rule, cols=_AXIS.rule, return_lse=True)
    assert (out.shape, out.dtype, out.device.type) == ((2, 8, 8, 4, 4), torch.float16, "meta")
    assert (lse.shape, lse.dtype) == ((2, 8, 8, 4), torch.float32)
    out.sum().backward()
    assert all(one.grad is not None and one.grad.shape == one.shape for one in operands.values())


@pytest.mark.parametrize("backend", ["torch", "reference", "exportable"])
def test_empty_batch(backend):
    query = torch.zeros(0, 7, 8, 2, 4, requires_grad=True)
    rpb = torch.zeros(2, 5, 5, requires_grad=True)
    with exportable_operators() if backend == "exportable" else use_backend(backend):
        out, lse = neighborhood_attention_2d(query, query, query, 3, rpb=rpb, return_lse=True)
    assert (out.shape, lse.shape) == ((0, 7, 8, 2, 4), (0, 7, 8, 2))
    out.sum().backward()
    assert query.grad is not None
    assert query.grad.shape == query.shape
    assert rpb.grad is not None
    assert not rpb.grad.any()


def test_zero_additional_tokens():
    query = torch.randn(2, 7, 8, 2, 4)
    none = torch.zeros(2, 0, 2, 4)
    actual = neighborhood_attention_2d(query, query, query, 3, additional_keys=none, additional_values=none)
    torch.testing.assert_close(actual, neighborhood_attention_2d(query, query, query, 3))


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_tables_do_not_depend_on_the_default_device_or_fake_tensors(backend):
    """Tables are cached across calls, so they must not depend on the state during the first call."""
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


def test_triton_on_a_cpu_raises(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    query = torch.randn(1, 5, 5, 1, 2)
    with pytest.raises(ValueError, match=r'backend="triton" cannot run here: .* cpu device'):
        neighborhood_attention_2d(query, query, query, 3, backend="triton")
    with use_backend("triton"), pytest.raises(ValueError, match="cannot run here"):
        neighborhood_attention_2d(query, query, query, 3)


class _OnCuda:
    """A stand-in for a CUDA tensor, with the attributes that the choice of a backend reads."""

    device = torch.device("cuda")
    dtype = torch.float32
    shape = (1, 7, 7, 1, 32)


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 128), (torch.bfloat16, 256)])
def test_large_dims_run_in_plain_pytorch_on_a_gpu(dtype, largest, monkeypatch):
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(checks, "device_limits", lambda device: DeviceLimits(163 * 1024, 80))
    longer = {"dtype": dtype, "shape": (1, 7, 7, 1, largest + 1)}
    short, long = (cast(Any, type("_Tensor", (_OnCuda,), one)()) for one in ({"dtype": dtype}, longer))
    for query, value in ((long, short), (short, long)):
        assert ranged_attention.select_backend(Operands(query, query, value), "auto") is cpu
        assert ranged_attention.select_backend(Operands(query, query, value), "triton") is fused
    assert ranged_attention.select_backend(Operands(short, short, short), "auto") is fused


def test_window_and_halo_attention_compile_without_graph_breaks():
    def attention(query: torch.Tensor, rpb: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        out = window_attention_2d(query, query, query, 4, 2, rpb)
        return halo_attention_2d(out, query, query, 4, 1, 1, embedding, embedding)

    arguments = [torch.randn(shape, requires_grad=True) for shape in ((2, 8, 8, 2, 4), (2, 7, 7), (11, 4))]
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    results = []
    for run in (attention, compiled):
        out = run(*arguments)
        results.append((out, *torch.autograd.grad(out.sin().sum(), arguments)))
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager)
