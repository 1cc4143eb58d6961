"""The backward pass: gradients of queries, keys and values.

Probabilities are recomputed from the scores and the saved log-sum-exps. Every gradient is summed by the one program
that owns it, in a fixed order, so results are the same each time.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from ...triton_common import launch
from ...triton_common.addressing import needs_int64_offsets, strided
from ...triton_common.checks import without_bfloat16
from ...triton_common.constants import LOG2_E
from ..geometry import Grid
from ..operands import Operands
from .backward_dkv import dkv_kernel
from .backward_dq import dq_kernel
from .operands import check_operands
from .plan import log2_times_seen, make_plan, source_regions


def backward(
    grad_out: torch.Tensor,
    operands: Operands,
    out: torch.Tensor,
    lse: torch.Tensor,
    grid: Grid,
    scale: float,
    needed: Collection[str] = Operands._fields,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    """Computes the gradients of queries, keys and values.

    Args:
        grad_out: Gradient of the output, (B, H, W, heads, dim_v), with any strides.
        operands: As in the forward pass.
        out: Output of the forward pass.
        lse: Log-sum-exps of the forward pass.
        grid: Rows and columns of regions.
        scale: Factor of the scores.
        needed: Names of the operands whose gradients are used.

    Returns:
        The gradients in the order of `Operands`, contiguous, in the shapes and dtypes of the operands; None for the
        routes; arbitrary for those that are not needed.

    Raises:
        ValueError: If the kernels do not support the operands' dtype or dims.
    """
    check_operands(operands)
    query, key, value = (without_bfloat16(one) for one in operands[:3])
    grad_out, out, lse = without_bfloat16(grad_out), without_bfloat16(out), lse.contiguous()
    routes = operands.routes.contiguous()
    delta = torch.empty_like(lse)
    gradients = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in (query, key, value)]
    plan = make_plan(query, routes, grid)
    regions = plan.grid.regions
    mask = log2_times_seen(routes, regions) if plan.masked else None
    vectors = (strided(query), strided(key), strided(value))
    constants = {"INT64_OFFSETS": needs_int64_offsets(query, key, value, out, grad_out, *gradients)}
    scale *= LOG2_E.value

    options = plan.options("dq", query, value)
    tiles = plan.tiles(options["TILE"])
    reads = (routes, mask, strided(out), lse, strided(grad_out))
    launch.run(
        dq_kernel,
        (query.shape[0] * tiles, query.shape[3]),
        query.device,
        (*vectors, *reads, delta, gradients[0], *plan.grid, tiles, routes.shape[2], scale),
        **constants,
        **options,
    )
    if not {"key", "value"}.isdisjoint(needed):
        starts, sources = (None, None) if plan.masked else source_regions(routes, regions)
        options = plan.options("dkv", query, value)
        tiles = plan.tiles(options["TILE"])
        reads = (starts, sources, mask, lse, delta, strided(grad_out))
        launch.run(
            dkv_kernel,
            (query.shape[0] * tiles, query.shape[3]),
            query.device,
            (*vectors, *reads, *gradients[1:], *plan.grid, tiles, scale),
            **constants,
            **options,
        )
    grad_query, grad_key, grad_value = (
        gradient.to(operand.dtype) for gradient, operand in zip(gradients, operands, strict=False)
    )
    return grad_query, grad_key, grad_value, None
