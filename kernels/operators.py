"""Defines an operation as a torch.library operator, with its backward pass as a second one.

Autograd, torch.compile and torch.export treat each call as a single node. An operation is one subclass of `Operator`
and one instance of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch.autograd import forward_ad

from .backends import exportable_operators_requested, requested_backend
from .dispatch import compute_dtype, without_autocast
from .functorch import TransformedForward

OperandsT = TypeVar("OperandsT", bound=tuple)


class Operator(Generic[OperandsT]):
    """An operation on tensors: `attnzoo::name`, and `attnzoo::name_backward` for its gradients.

    A backend is a module with two functions:

        forward(operands, *settings) -> outputs
        backward(*output_gradients, operands, *outputs, *settings, needed) -> gradients in the order of the operands

    `output_gradients` are those of the differentiable outputs. The first is always a tensor, the others may be None.
    A gradient is None for an operand that is None or not differentiable. `needed` are the names of the operands whose
    gradients are used; those of others may be anything, and work that only they need can be left out. `settings` are
    the arguments that are not tensors (geometry, scale) as Python objects; the operator's schema carries them as the
    integers, floats and lists that `encode` makes of them.

    Attributes:
        name: Name of the forward operator.
        operands: NamedTuple class of the tensor arguments. Fields with a default (None) are optional.
        settings: Schema of the other arguments, such as "int[] rows, int[] cols, float scale".
        outputs: Names of the forward operator's results.
        non_differentiable: Names of the operands and outputs without a gradient.
        saves_outputs: Whether the backward pass takes the outputs. Otherwise they are not kept for it.
        unbatched: Names of the operands without a batch dimension; the other operands and all outputs have it first.
            None if the operation has no batch dimension. `torch.vmap` extends the batch by its own dimension where it
            can, and calls the operator once per sample elsewhere.
    """

    name: ClassVar[str]
    operands: ClassVar[Any]
    settings: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    non_differentiable: ClassVar[Collection[str]] = ()
    saves_outputs: ClassVar[bool] = True
    unbatched: ClassVar[Collection[str] | None] = None

    def __init__(self) -> None:
        fields = self.operands._fields
        self._count = len(fields)
        fixed = self.non_differentiable
        self._grad_operands = [place for place, name in enumerate(fields) if name not in fixed]
        self._grad_outputs = [place for place, name in enumerate(self.outputs) if name not in fixed]
        self.num_grad_outputs = len(self._grad_outputs)
        self._fixed_outputs = [place for place, name in enumerate(self.outputs) if name in fixed]
        self.places_without_batch = None if self.unbatched is None else [fields.index(name) for name in self.unbatched]
        assert self.saves_outputs or len(self._grad_outputs) == 1, "zero gradients need the outputs' shapes"
        self._define_forward()
        self._define_backward()

    def __call__(self, operands: OperandsT, *settings: Any, backend: str = "auto") -> tuple[torch.Tensor, ...]:
        """Computes the outputs on the requested backend, as one operator or as PyTorch's own operators.

        Forward-mode differentiation, such as `torch.func.jvp`, uses PyTorch's own operators, and so do compiled
        functions that contain transforms of `torch.func`.

        Raises:
            ValueError: If the backend does not exist or cannot run here.
        """
        backend = requested_backend(backend)
        if backend == "reference":
            return _in_compute_dtype(self.reference, operands, settings)
        is_transformed = torch._C._are_functorch_transforms_active()
        if (
            exportable_operators_requested()
            or forward_ad._current_level >= 0
            or (is_transformed and torch.compiler.is_compiling())
        ):
            return _in_compute_dtype(self.exportable, operands, settings)
        arguments = (*operands, *self.encode(*settings), backend)
        return _as_tuple(
            TransformedForward.apply(self, *arguments) if is_transformed else self.call_forward(*arguments)
        )

    def encode(self, *settings: Any) -> tuple[Any, ...]:
        """Converts settings to the values that the schema carries."""
        raise NotImplementedError

    def decode(self, *values: Any) -> tuple[Any, ...]:
        """Converts the schema's values back to settings."""
        raise NotImplementedError

    def select_backend(self, operands: OperandsT, backend: str) -> ModuleType:
        """Returns the module whose `forward` and `backward` run for these operands.

        Args:
            operands: Tensors on the device that the call runs on.
            backend: "auto", "triton" or "torch".

        Raises:
            ValueError: If "triton" is requested and cannot run here.
        """
        raise NotImplementedError

    def fake_outputs(self, operands: OperandsT) -> tuple[torch.Tensor, ...]:
        """Returns uninitialized outputs with the right shapes, dtypes and device."""
        raise NotImplementedError

    def check_values(self, operands: OperandsT, *settings: Any) -> None:
        """Raises a ValueError for operands whose values are not allowed. Not called for fake tensors."""

    def reference(self, operands: OperandsT, *settings: Any) -> tuple[torch.Tensor, ...]:
        """Computes the outputs by definition, in the operands' dtype."""
        raise NotImplementedError

    def exportable(self, operands: OperandsT, *settings: Any) -> tuple[torch.Tensor, ...]:
        """Computes the outputs with PyTorch's own operators, in the operands' dtype."""
        raise NotImplementedError

    def save(self, ctx: Any, arguments: Sequence[Any], outputs: tuple[torch.Tensor, ...]) -> None:
        """Saves what `gradients` needs in the context of an autograd function."""
        ctx.set_materialize_grads(False)
        if self._fixed_outputs:
            ctx.mark_non_differentiable(*[outputs[place] for place in self._fixed_outputs])
        ctx.save_for_backward(*arguments[: self._count], *(outputs if self.saves_outputs else ()))
        ctx.operator, ctx.settings = self, arguments[self._count :]

    def gradients(
        self, ctx: Any, grad_outputs: Sequence[torch.Tensor | None], backward: Callable[..., Any]
    ) -> list[torch.Tensor | None]:
        """Returns the gradient of each argument of the forward operator; `backward` calls the backward operator."""
        saved = ctx.saved_tensors
        gradients: list[torch.Tensor | None] = [None] * (self._count + len(ctx.settings))
        grads = [grad_outputs[place] for place in self._grad_outputs]
        if grads[0] is None:
            if all(one is None for one in grads):
                return gradients
            grads[0] = torch.zeros_like(saved[self._count])
        # The first argument of the autograd function is the operator.
        needed = [ctx.needs_input_grad[1 + place] for place in self._grad_operands]
        results = _as_tuple(backward(*grads, *saved, *ctx.settings[:-1], needed, ctx.settings[-1]))
        for place, gradient, is_needed in zip(self._grad_operands, results, needed, strict=True):
            if is_needed and saved[place] is not None:
                gradients[place] = gradient
        return gradients

    def second_derivative_error(self) -> RuntimeError:
        """Returns the error to raise where a gradient is differentiated."""
        return RuntimeError(
            f"The gradient of {self.name} cannot be differentiated again. For second derivatives use "
            'backend="reference", which supports them (and stores the scores of all pairs of positions).'
        )

    def _define_forward(self) -> None:
        schema = ", ".join(f"{self._tensor_type(field)} {field}" for field in self.operands._fields)
        results = ", ".join("Tensor" for _ in self.outputs)
        name = f"attnzoo::{self.name}"

        def forward(*arguments: Any) -> Any:
            operands, settings, backend = self._unpack(arguments)
            self.check_values(operands, *settings)
            with without_autocast(operands[0].device.type):
                return _one_or_all(self.select_backend(operands, backend).forward(operands, *settings))

        def fake(*arguments: Any) -> Any:
            return _one_or_all(self.fake_outputs(self.operands(*arguments[: self._count])))

        torch.library.define(name, f"({schema}, {self.settings}, str backend) -> ({results})")
        torch.library.impl(name, "default", forward)  # every device: "auto" runs plain PyTorch where Triton does not
        torch.library.register_fake(name, fake)
        torch.library.impl(name, "Autograd", lambda *arguments: _Forward.apply(self, *arguments))
        self.call_forward = getattr(torch.ops.attnzoo, self.name).default

    def _define_backward(self) -> None:
        first = len(self._grad_outputs)
        grads = [f"grad_{self.outputs[place]}" for place in self._grad_outputs]
        tensors = [f"Tensor {grads[0]}", *(f"Tensor? {name}" for name in grads[1:])]
        tensors += [f"{self._tensor_type(field)} {field}" for field in self.operands._fields]
        if self.saves_outputs:
            tensors += [f"Tensor {name}" for name in self.outputs]
        # Gradients that do not exist or are not needed are empty tensors: a schema has no optional results.
        results = ", ".join("Tensor" for _ in self._grad_operands)
        name = f"attnzoo::{self.name}_backward"

        def backward(*arguments: Any) -> Any:
            last = first + self._count
            saved = len(self.outputs) if self.saves_outputs else 0
            operands = self.operands(*arguments[first:last])
            *encoded, needed, backend = arguments[last + saved :]
            settings = self.decode(*encoded)
            names = {
                self.operands._fields[place] for place, one in zip(self._grad_operands, needed, strict=True) if one
            }
            with without_autocast(operands[0].device.type):
                gradients = self.select_backend(operands, backend).backward(
                    *arguments[:first], operands, *arguments[last : last + saved], *settings, needed=names
                )
            return self._chosen(gradients, needed, operands[0])

        def fake(*arguments: Any) -> Any:
            operands = arguments[first : first + self._count]
            like = [None if one is None else one.new_empty(one.shape) for one in operands]
            return self._chosen(like, arguments[-2], operands[0])

        schema = f"{', '.join(tensors)}, {self.settings}, bool[] needed, str backend"
        torch.library.define(name, f"({schema}) -> ({results})")
        torch.library.impl(name, "default", backward)
        torch.library.register_fake(name, fake)
        torch.library.impl(name, "Autograd", lambda *arguments: _Backward.apply(self, *arguments))
        self.call_backward = getattr(torch.ops.attnzoo, f"{self.name}_backward").default

    def _chosen(self, gradients: Sequence[torch.Tensor | None], needed: Sequence[bool], like: torch.Tensor) -> Any:
        """Returns the backward operator's results from the gradients of all operands."""
        chosen = [
            gradients[place] if is_needed else None
            for place, is_needed in zip(self._grad_operands, needed, strict=True)
        ]
        return _one_or_all(tuple([like.new_empty(0) if one is None else one for one in chosen]))

    def _tensor_type(self, field: str) -> str:
        return "Tensor?" if field in self.operands._field_defaults else "Tensor"

    def _unpack(self, arguments: tuple[Any, ...]) -> tuple[OperandsT, tuple[Any, ...], str]:
        """Splits the forward operator's arguments into operands, decoded settings and backend."""
        operands = self.operands(*arguments[: self._count])
        return operands, self.decode(*arguments[self._count : -1]), arguments[-1]


class _Forward(torch.autograd.Function):
    """Autograd's boundary. `torch.library.register_autograd` takes twice the time per call."""

    @staticmethod
    def forward(ctx: Any, operator: Operator[Any], *arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            results = operator.call_forward(*arguments)
        operator.save(ctx, arguments, _as_tuple(results))
        return results

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> tuple[Any, ...]:
        return (None, *ctx.operator.gradients(ctx, grad_outputs, ctx.operator.call_backward))


class _Backward(torch.autograd.Function):
    """Raises an error where a gradient is differentiated; without it, PyTorch would continue without a gradient."""

    @staticmethod
    def forward(ctx: Any, operator: Operator[Any], *arguments: Any) -> Any:
        ctx.operator = operator
        with torch._C._AutoDispatchBelowAutograd():
            return operator.call_backward(*arguments)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor | None) -> Any:
        raise ctx.operator.second_derivative_error()


def empty_attention_outputs(query: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns uninitialized outputs of an attention on a map.

    Args:
        query: (B, H, W, heads, dim).
        value: (..., dim_v).

    Returns:
        (B, H, W, heads, dim_v) in the query's dtype, and (B, H, W, heads) log-sum-exps in the compute dtype.
    """
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    return out, query.new_empty(query.shape[:4], dtype=compute_dtype(query.dtype))


def _as_tuple(results: Any) -> tuple[Any, ...]:
    """Returns the results of an operator, a tensor if there is only one, as a tuple."""
    return results if isinstance(results, tuple) else (results,)


def _one_or_all(results: tuple[Any, ...]) -> Any:
    """Returns the only result of an operator with one, as its schema asks for, and all results otherwise."""
    return results[0] if len(results) == 1 else results


def _in_compute_dtype(
    function: Callable[..., tuple[torch.Tensor, ...]], operands: Any, settings: tuple[Any, ...]
) -> tuple[torch.Tensor, ...]:
    """Calls a function that computes in its operands' dtype in at least float32, as the operator does."""
    result_dtype = operands[0].dtype
    dtype = compute_dtype(result_dtype)
    if dtype != result_dtype:
        operands = type(operands)(
            *(one.to(dtype) if one is not None and one.is_floating_point() else one for one in operands)
        )
    with without_autocast(operands[0].device.type):
        out, *others = function(operands, *settings)
    return (out.to(result_dtype), *others)
