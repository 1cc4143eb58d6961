"""Ranged attention as one operator of torch's, so that autograd, torch.compile and torch.export see a single node.

`attnzoo::ranged_attention_2d` and its backward take rules as lists of integers and run the fused kernels or plain
PyTorch, as their `backend` and the operands' device say. Shapes follow from the arguments, so meta and fake tensors
work as well.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ..dispatch import compute_dtype, implementation, without_autocast
from . import cpu
from .geometry import AxisRule, Geometry, decode_rule, encode_rule
from .operands import Operands

_OPERANDS = (
    "Tensor query, Tensor key, Tensor value, Tensor? rpb, Tensor? row_terms, Tensor? col_terms, "
    "Tensor? additional_keys, Tensor? additional_values, "
)
# How many arguments that makes.
_COUNT = 8
_SETTINGS = "int[] rows, int[] cols, float scale, str backend"
_FORWARD = "attnzoo::ranged_attention_2d"
_BACKWARD = "attnzoo::ranged_attention_2d_backward"
torch.library.define(_FORWARD, f"({_OPERANDS}{_SETTINGS}) -> (Tensor, Tensor)")
# Gradients of arguments that are None are empty tensors: a schema has no optional results.
torch.library.define(
    _BACKWARD,
    f"(Tensor grad_out, Tensor? grad_lse, {_OPERANDS}Tensor out, Tensor lse, {_SETTINGS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def ranged_attention_2d_operator(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rpb: torch.Tensor | None,
    row_terms: torch.Tensor | None,
    col_terms: torch.Tensor | None,
    additional_keys: torch.Tensor | None,
    additional_values: torch.Tensor | None,
    rows: AxisRule,
    cols: AxisRule,
    scale: float,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Calls the operator; arguments as in `cpu.forward`, `backend` "auto", "triton" or "torch"."""
    return torch.ops.attnzoo.ranged_attention_2d.default(
        query,
        key,
        value,
        rpb,
        row_terms,
        col_terms,
        additional_keys,
        additional_values,
        encode_rule(rows),
        encode_rule(cols),
        scale,
        backend,
    )


@torch.library.impl(_FORWARD, ("cpu", "cuda"))
def _forward(*arguments):
    *operands, rows, cols, scale, backend = arguments
    query, _, value = operands[:3]
    with without_autocast(query.device.type):
        return _implementation(query, value, backend).forward(
            Operands(*operands), Geometry(decode_rule(rows), decode_rule(cols)), scale
        )


@torch.library.impl(_BACKWARD, ("cpu", "cuda"))
def _backward(*arguments):
    grad_out, grad_lse, *operands, out, lse, rows, cols, scale, backend = arguments
    query, _, value = operands[:3]
    geometry = Geometry(decode_rule(rows), decode_rule(cols))
    with without_autocast(query.device.type):
        gradients = _implementation(query, value, backend).backward(
            grad_out, grad_lse, Operands(*operands), out, lse, geometry, scale
        )
    return tuple(query.new_empty(0) if gradient is None else gradient for gradient in gradients)


@torch.library.register_fake(_FORWARD)
def _forward_shapes(query, key, value, *others):
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    return out, query.new_empty(query.shape[:4], dtype=compute_dtype(query.dtype))


@torch.library.register_fake(_BACKWARD)
def _backward_shapes(grad_out, grad_lse, query, *others):
    operands = (query, *others[: _COUNT - 1])
    return tuple(query.new_empty(0) if one is None else one.new_empty(one.shape) for one in operands)


class _Forward(torch.autograd.Function):
    """Autograd's boundary. `torch.library.register_autograd` would do, at twice the time a call."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        with torch._C._AutoDispatchBelowAutograd():
            results = torch.ops.attnzoo.ranged_attention_2d.default(*arguments)
        ctx.save_for_backward(*arguments[:_COUNT], *results)
        ctx.settings = arguments[_COUNT:]
        return results

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> tuple[Any, ...]:
        grad_out, grad_lse = grad_outputs
        *operands, out, lse = ctx.saved_tensors
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        gradients = torch.ops.attnzoo.ranged_attention_2d_backward.default(
            grad_out, grad_lse, *operands, out, lse, *ctx.settings
        )
        present = (None if operand is None else gradient for operand, gradient in zip(operands, gradients, strict=True))
        return (*present, None, None, None, None)


class _Backward(torch.autograd.Function):
    """Ends differentiation with a message, where torch would go on without a gradient."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.attnzoo.ranged_attention_2d_backward.default(*arguments)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> Any:
        raise RuntimeError(
            "Ranged attention's backward pass cannot be differentiated again. For second derivatives use "
            'backend="reference", which can (and needs memory for all pairs of positions).'
        )


torch.library.impl(_FORWARD, "Autograd", lambda *arguments: _Forward.apply(*arguments))
torch.library.impl(_BACKWARD, "Autograd", lambda *arguments: _Backward.apply(*arguments))


def _implementation(query: torch.Tensor, value: torch.Tensor, backend: str) -> ModuleType:
    """The module whose `forward` and `backward` run for operands like these.

    "auto" leaves dims that the fused kernels do not take to plain PyTorch; "triton" raises in them.
    """

    def load_fused() -> ModuleType:
        from . import fused

        return fused if backend == "triton" or fused.takes(query, value) else cpu

    return implementation(query, backend, cpu, load_fused)
