"""Operators under `torch.func`: `grad`, `vmap`, their combinations and what is built on them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

InDims = tuple[Any, ...]
"""Dimension that `vmap` maps over, per argument; None for tensors without it and for other arguments."""


class TransformedForward(torch.autograd.Function):
    """Calls an `Operator`, the first argument, with the arguments of its forward operator."""

    @staticmethod
    def forward(operator: Any, *arguments: Any) -> Any:
        """Calls the forward operator."""
        return operator.call_forward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Saves what the backward pass needs."""
        operator, *arguments = inputs
        outputs = output if isinstance(output, tuple) else (output,)
        operator.save(ctx, arguments, outputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> tuple[Any, ...]:
        """Returns a gradient per argument."""
        return (
            None,
            *ctx.operator.gradients(ctx, grad_outputs, lambda *args: _TransformedBackward.apply(ctx.operator, *args)),
        )

    @staticmethod
    def vmap(info: Any, in_dims: InDims, operator: Any, *arguments: Any) -> Any:
        """Calls the operator for all samples, and returns the results with their dimension of samples."""
        fixed, dims = operator.places_without_batch, in_dims[1:]
        call = _extend_batch if fixed is not None and all(dims[place] is None for place in fixed) else _call_per_sample
        return _with_out_dims(call(TransformedForward, operator, info.batch_size, dims, arguments, fixed))


class _TransformedBackward(torch.autograd.Function):
    """Calls an `Operator`, the first argument, with the arguments of its backward operator."""

    @staticmethod
    def forward(operator: Any, *arguments: Any) -> Any:
        return operator.call_backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> Any:
        raise ctx.operator.second_derivative_error()

    @staticmethod
    def vmap(info: Any, in_dims: InDims, operator: Any, *arguments: Any) -> Any:
        fixed = operator.places_without_batch
        if fixed is not None:
            fixed = [operator.num_grad_outputs + place for place in fixed]
        # The gradient of an operand without a batch dimension is a sum over the batch, which must not mix samples.
        extends = fixed is not None and all(arguments[place] is None for place in fixed)
        call = _extend_batch if extends else _call_per_sample
        return _with_out_dims(call(_TransformedBackward, operator, info.batch_size, in_dims[1:], arguments, fixed))


def _extend_batch(
    function: Any, operator: Any, size: int, in_dims: InDims, arguments: tuple[Any, ...], fixed: Collection[int] | None
) -> Any:
    """Calls an operator once, on batches that are `size` times as large; unmapped tensors are repeated."""

    def extended(place: int, dim: int | None, one: Any) -> Any:
        if not isinstance(one, torch.Tensor) or place in (fixed or ()):
            return one
        return (one.expand(size, *one.shape) if dim is None else one.movedim(dim, 0)).flatten(0, 1)

    results = function.apply(operator, *map(extended, range(len(arguments)), in_dims, arguments))
    if isinstance(results, tuple):
        return tuple(one.unflatten(0, (size, one.shape[0] // size)) for one in results)
    return results.unflatten(0, (size, results.shape[0] // size))


def _call_per_sample(
    function: Any, operator: Any, size: int, in_dims: InDims, arguments: tuple[Any, ...], fixed: Any
) -> Any:
    """Calls an operator `size` times and stacks the results."""

    def sample(index: int) -> Any:
        return function.apply(
            operator,
            *(
                one.select(dim, index) if isinstance(one, torch.Tensor) and dim is not None else one
                for dim, one in zip(in_dims, arguments, strict=True)
            ),
        )

    samples = [sample(index) for index in range(size)]
    return (
        tuple(map(torch.stack, zip(*samples, strict=True))) if isinstance(samples[0], tuple) else torch.stack(samples)
    )


def _with_out_dims(results: Any) -> tuple[Any, Any]:
    """Returns results that have vmap's dimension first, and the place of this dimension for each of them."""
    return results, (0,) * len(results) if isinstance(results, tuple) else 0
