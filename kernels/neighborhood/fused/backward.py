"""The backward pass: gradients of all operands.

Probabilities are recomputed from the scores and the saved log-sum-exps. Every gradient is summed by the one program
that owns it, in a fixed order, so results are the same each time.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from ...triton_common.checks import without_bfloat16
from ...triton_common.constants import LOG2_E
from ..geometry import Geometry
from ..operands import Operands
from .backward_additional import launch_additional
from .backward_bias import launch_bias
from .backward_dkv import launch_dkv
from .backward_dq import launch_dq
from .backward_inputs import BackwardInputs
from .operands import check_operands, computable
from .padded_bias import pad_bias
from .plan import Grid, plan_keys, plan_queries
from .tile_sizes import tile_sizes


def backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    operands: Operands,
    out: torch.Tensor,
    lse: torch.Tensor,
    geometry: Geometry,
    scale: float,
    needed: Collection[str] = Operands._fields,
) -> tuple[torch.Tensor | None, ...]:
    """Computes the gradients of the operands.

    Args:
        grad_out: Gradient of the output, (B, Hq, Wq, heads, dim_v), with any strides.
        grad_lse: Gradient of `lse`, or None.
        operands: As in the forward pass.
        out: Output of the forward pass.
        lse: Log-sum-exps of the forward pass.
        geometry: As in the forward pass.
        scale: As in the forward pass.
        needed: Names of the operands whose gradients are used.

    Returns:
        The gradients in the order of `Operands`, contiguous, in the shapes and dtypes of the operands; None for
        operands that are None; arbitrary for those that are not needed.

    Raises:
        ValueError: If the kernels do not support the operands' dtype or dims.
    """
    check_operands(operands)
    given, operands = operands, computable(operands)
    axes = (geometry, Grid(*operands.query.shape[1:3]), Grid(*operands.key.shape[1:3]))
    dq_plan = plan_queries(*axes, tile_sizes("dq", operands))
    dkv_plan = plan_keys(*axes, tile_sizes("dkv", operands))
    bias_plan = plan_queries(*axes, tile_sizes("bias", operands), aligned=True)
    lse = lse.contiguous()
    inputs = BackwardInputs(
        operands=operands,
        bias=pad_bias(operands.rpb, dq_plan, dkv_plan, bias_plan),
        out=without_bfloat16(out),
        lse=lse,
        delta=torch.empty_like(lse),
        grad_out=without_bfloat16(grad_out),
        gradients=_allocate(operands),
        scale=scale * LOG2_E.value,
    )
    launch_dq(inputs, grad_lse, geometry, dq_plan)
    if not {"key", "value"}.isdisjoint(needed):
        launch_dkv(inputs, dkv_plan)
    if operands.rpb is not None and "rpb" in needed:
        launch_bias(inputs, bias_plan)
    if operands.additional_keys is not None and not {"additional_keys", "additional_values"}.isdisjoint(needed):
        launch_additional(inputs, tile_sizes("additional", operands))
    return tuple(
        None if operand is None or gradient is None else gradient.to(operand.dtype)
        for operand, gradient in zip(given, inputs.gradients, strict=True)
    )


def _allocate(operands: Operands) -> Operands:
    """Allocates contiguous gradients: zeros for terms, of which only visible pairs are written; else uninitialized."""
    empty = (None if one is None else torch.empty_like(one, memory_format=torch.contiguous_format) for one in operands)
    terms = (
        None if one is None else torch.zeros(one.shape, dtype=one.dtype, device=one.device)
        for one in (operands.row_terms, operands.col_terms)
    )
    return Operands._make(empty)._replace(**dict(zip(("row_terms", "col_terms"), terms, strict=True)))
