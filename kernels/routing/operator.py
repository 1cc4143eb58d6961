"""Routed attention as one operator of torch's, so that autograd, torch.compile and torch.export see a single node.

`attnzoo::routed_attention_2d` and its backward run the fused kernels or plain PyTorch, as their `backend` and the
operands' device say. Shapes follow from the arguments, so meta and fake tensors work as well.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ..dispatch import compute_dtype, implementation, without_autocast
from . import cpu
from .geometry import Grid, check_routes
from .operands import Operands

_SETTINGS = "int[] grid, float scale, str backend"
_OPERANDS = "Tensor query, Tensor key, Tensor value, Tensor routes"
_FORWARD = "attnzoo::routed_attention_2d"
_BACKWARD = "attnzoo::routed_attention_2d_backward"
torch.library.define(_FORWARD, f"({_OPERANDS}, {_SETTINGS}) -> (Tensor, Tensor)")
torch.library.define(
    _BACKWARD, f"(Tensor grad_out, {_OPERANDS}, Tensor out, Tensor lse, {_SETTINGS}) -> (Tensor, Tensor, Tensor)"
)


def routed_attention_2d_operator(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    grid: Grid,
    scale: float,
    backend: str,
) -> torch.Tensor:
    """Calls the operator; arguments as in `cpu.forward`, `backend` "auto", "triton" or "torch".

    Returns:
        The output alone: the logarithms of the denominators, the operator's other result, are for its backward pass.
    """
    return torch.ops.attnzoo.routed_attention_2d.default(query, key, value, routes, list(grid), scale, backend)[0]


@torch.library.impl(_FORWARD, ("cpu", "cuda"))
def _forward(query, key, value, routes, grid, scale, backend):
    if routes.device.type == "cpu":
        check_routes(routes, grid[0] * grid[1])
    with without_autocast(query.device.type):
        return _implementation(query, backend).forward(Operands(query, key, value, routes), tuple(grid), scale)


@torch.library.impl(_BACKWARD, ("cpu", "cuda"))
def _backward(grad_out, query, key, value, routes, out, lse, grid, scale, backend):
    with without_autocast(query.device.type):
        return _implementation(query, backend).backward(
            grad_out, Operands(query, key, value, routes), out, lse, tuple(grid), scale
        )[:3]


@torch.library.register_fake(_FORWARD)
def _forward_shapes(query, key, value, routes, grid, scale, backend):
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    return out, query.new_empty(query.shape[:4], dtype=compute_dtype(query.dtype))


@torch.library.register_fake(_BACKWARD)
def _backward_shapes(grad_out, query, key, value, routes, out, lse, grid, scale, backend):
    return tuple(one.new_empty(one.shape) for one in (query, key, value))


class _Forward(torch.autograd.Function):
    """Autograd's boundary. `torch.library.register_autograd` would do, at twice the time a call."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            results = torch.ops.attnzoo.routed_attention_2d.default(*arguments)
        ctx.mark_non_differentiable(results[1])
        ctx.save_for_backward(*arguments[:4], *results)
        ctx.settings = arguments[4:]
        return results

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[Any, ...]:
        gradients = torch.ops.attnzoo.routed_attention_2d_backward.default(
            grad_outputs[0], *ctx.saved_tensors, *ctx.settings
        )
        return (*gradients, None, None, None, None)


class _Backward(torch.autograd.Function):
    """Ends differentiation with a message, where torch would go on without a gradient."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.attnzoo.routed_attention_2d_backward.default(*arguments)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> Any:
        raise RuntimeError(
            "Routed attention's backward pass cannot be differentiated again. For second derivatives use "
            'backend="reference", which can (and needs memory for all pairs of positions).'
        )


torch.library.impl(_FORWARD, "Autograd", lambda *arguments: _Forward.apply(*arguments))
torch.library.impl(_BACKWARD, "Autograd", lambda *arguments: _Backward.apply(*arguments))


def _implementation(query: torch.Tensor, backend: str) -> ModuleType:
    """The module whose `forward` and `backward` run for operands like `query`."""

    def load_fused() -> ModuleType:
        from . import fused

        return fused

    return implementation(query, backend, cpu, load_fused)
