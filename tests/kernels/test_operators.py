"""The definition of operators, with a small operation that uses every option."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch

from attnzoo.kernels import exportable_operators
from attnzoo.kernels.operators import Operator, empty_attention_outputs


class _Operands(NamedTuple):
    x: torch.Tensor
    index: torch.Tensor
    weight: torch.Tensor | None = None


_needed: list[set[str]] = []


def _gather(operands: _Operands, scale: float) -> tuple[torch.Tensor]:
    y = operands.x[operands.index] * scale
    return (y if operands.weight is None else y * operands.weight,)


def _gather_backward(
    grad_y: torch.Tensor, operands: _Operands, scale: float, needed: Collection[str]
) -> tuple[torch.Tensor | None, ...]:
    _needed.append(set(needed))
    grad = grad_y * scale
    grad_weight = None if operands.weight is None else (grad * operands.x[operands.index]).sum(0)
    grad = grad if operands.weight is None else grad * operands.weight
    return torch.zeros_like(operands.x).index_add_(0, operands.index, grad), None, grad_weight


class _Gather(Operator[_Operands]):
    """A single output, which the backward pass does not take, and an operand without a gradient."""

    name = "test_gather"
    operands = _Operands
    settings = "float scale"
    outputs = ("y",)
    non_differentiable = ("index",)
    saves_outputs = False

    def encode(self, scale: float) -> tuple[float]:
        return (scale,)

    def decode(self, scale: float) -> tuple[float]:
        return (scale,)

    def check_values(self, operands: _Operands, scale: float) -> None:
        if int(operands.index.max()) >= len(operands.x):
            raise ValueError("index out of range")

    def select_backend(self, operands: _Operands, backend: str) -> ModuleType:
        return cast(Any, SimpleNamespace(forward=_gather, backward=_gather_backward))

    def fake_outputs(self, operands: _Operands) -> tuple[torch.Tensor]:
        return (operands.x.new_empty((len(operands.index), *operands.x.shape[1:])),)

    def reference(self, operands: _Operands, scale: float) -> tuple[torch.Tensor]:
        assert operands.x.dtype in (torch.float32, torch.float64), "computed in at least float32"
        return _gather(operands, scale)

    def exportable(self, operands: _Operands, scale: float) -> tuple[torch.Tensor]:
        return _gather(operands, scale)


_GATHER = _Gather()


class _LogSumExp(Operator[_Operands]):
    """Two differentiable outputs."""

    name = "test_log_sum_exp"
    operands = _Operands
    settings = "int[] shape"
    outputs = ("probs", "lse")
    non_differentiable = ("index",)

    def encode(self, shape: tuple[int, ...]) -> tuple[list[int]]:
        return (list(shape),)

    def decode(self, shape: list[int]) -> tuple[tuple[int, ...]]:
        return (tuple(shape),)

    def select_backend(self, operands: _Operands, backend: str) -> ModuleType:
        def backward(
            grad_probs: Any, grad_lse: Any, operands: Any, probs: Any, lse: Any, shape: Any, needed: Any
        ) -> Any:
            grad = probs * (grad_probs - (grad_probs * probs).sum(-1, keepdim=True))
            return grad if grad_lse is None else grad + grad_lse[..., None] * probs, None, None

        return cast(Any, SimpleNamespace(forward=self.reference, backward=backward))

    def fake_outputs(self, operands: _Operands) -> tuple[torch.Tensor, torch.Tensor]:
        return operands.x.new_empty(operands.x.shape), operands.x.new_empty(operands.x.shape[:-1])

    def reference(self, operands: _Operands, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        assert shape == tuple(operands.x.shape)
        return operands.x.softmax(-1), operands.x.logsumexp(-1)


_LOG_SUM_EXP = _LogSumExp()
_INDEX = torch.tensor([2, 0, 2])


def _operands(weight: bool = True) -> _Operands:
    draw = torch.Generator().manual_seed(0)
    x, other = (torch.randn(*shape, generator=draw).double().requires_grad_() for shape in ((3, 4), (4,)))
    return _Operands(x, _INDEX, other if weight else None)


@pytest.mark.parametrize("weight", [False, True])
def test_opcheck(weight):
    operands = _operands(weight)
    torch.library.opcheck(torch.ops.attnzoo.test_gather.default, (*operands, 0.5, "auto"))
    detached = [one if one is None else one.detach() for one in operands]
    backward = torch.ops.attnzoo.test_gather_backward.default
    torch.library.opcheck(backward, (torch.randn(3, 4).double(), *detached, 0.5, [True, weight], "auto"))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("weight", [False, True])
def test_gradients(weight, backend):
    operands = _operands(weight)
    wanted = [one for one in (operands.x, operands.weight) if one is not None]

    def call(*tensors):
        return _GATHER(_Operands(tensors[0], _INDEX, *tensors[1:]), 0.5, backend=backend)[0]

    assert torch.autograd.gradcheck(call, wanted)


def test_results_of_all_ways_are_equal():
    operands = _operands()
    expected = _gather(operands, 0.5)[0]
    assert torch.equal(_GATHER(operands, 0.5)[0], expected)
    with exportable_operators():
        assert torch.equal(_GATHER(operands, 0.5)[0], expected)
    half = _Operands(operands.x.half(), _INDEX, None)
    assert _GATHER(half, 0.5, backend="reference")[0].dtype == torch.float16


def test_outputs_are_saved_only_if_the_backward_pass_takes_them():
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: saved.append(one) or one, lambda one: one):
        out = _GATHER(_operands(), 0.5)[0]
        assert len(saved) == 3
        assert all(one.data_ptr() != out.data_ptr() for one in saved)
        saved.clear()
        outputs = _LOG_SUM_EXP(_operands(False), (3, 4))
    assert {one.data_ptr() for one in outputs} < {one.data_ptr() for one in saved}


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_gradients_of_some_outputs(used):
    gradients = []
    for backend in ("auto", "reference"):
        operands = _operands(False)
        outputs = _LOG_SUM_EXP(operands, (3, 4), backend=backend)
        chosen = [outputs[place].sin().sum() for place in used]
        (gradient,) = torch.autograd.grad(chosen, operands.x)
        gradients.append(gradient)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_gradients_of_frozen_operands_are_not_computed(frozen, compiled):
    def call(x, weight):
        return _GATHER(_Operands(x, _INDEX, weight), 0.5)[0]

    operands = _operands()
    tensors = {"x": operands.x, "weight": cast(torch.Tensor, operands.weight)}
    tensors[frozen] = tensors[frozen].detach()
    (trained,) = (name for name in tensors if name != frozen)
    run = torch.compile(call, fullgraph=True, backend="aot_eager") if compiled else call
    _needed.clear()
    run(**tensors).sum().backward()
    assert _needed == [{trained}]
    expected = torch.autograd.grad(
        _gather(_Operands(tensors["x"], _INDEX, tensors["weight"]), 0.5)[0].sum(), tensors[trained]
    )
    torch.testing.assert_close(tensors[trained].grad, expected[0])


@pytest.mark.parametrize("device", ["CPU", "CUDA", "MPS", "XPU", "HPU", "PrivateUse1"])
def test_every_device_has_an_implementation(device):
    for name in ("test_gather", "test_gather_backward"):
        for key in (device, f"Autograd{device}"):
            assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(f"attnzoo::{name}", key), f"{name}: {key}"


def test_second_derivatives_raise():
    operands = _operands()
    (gradient,) = torch.autograd.grad(_GATHER(operands, 0.5)[0].pow(2).sum(), operands.x, create_graph=True)
    with pytest.raises(RuntimeError, match=r'The gradient of test_gather .* use backend="reference"'):
        gradient.sum().backward()


def test_values_are_checked_for_real_tensors_only():
    operands = _operands()._replace(index=torch.tensor([3]))
    with pytest.raises(ValueError, match="index out of range"):
        _GATHER(operands, 0.5)
    meta = _Operands(*(cast(torch.Tensor, one).detach().to("meta") for one in operands))
    assert _GATHER(meta, 0.5)[0].shape == (1, 4)


def test_compiled_results_are_equal():
    def call(x, weight):
        return _GATHER(_Operands(x, _INDEX, weight), 0.5)[0].sin()

    operands = _operands()
    results = []
    for run in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        out = run(operands.x, operands.weight)
        results.append((out, *torch.autograd.grad(out.sum(), (operands.x, cast(torch.Tensor, operands.weight)))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_outputs_of_an_attention():
    out, lse = empty_attention_outputs(torch.zeros(1, 2, 3, 4, 5).bfloat16(), torch.zeros(1, 2, 3, 4, 6).bfloat16())
    assert (out.shape, out.dtype) == ((1, 2, 3, 4, 6), torch.bfloat16)
    assert (lse.shape, lse.dtype) == ((1, 2, 3, 4), torch.float32)
