"""Gradients of queries and terms, and `delta`, in Triton's interpreter."""

from __future__ import annotations

import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.fused.backward_dq import launch_dq
from attnzoo.kernels.neighborhood.fused.backward_inputs import BackwardInputs
from attnzoo.kernels.neighborhood.fused.padded_bias import pad_bias
from attnzoo.kernels.neighborhood.fused.plan import Grid, plan_queries
from attnzoo.kernels.neighborhood.fused.tile_sizes import tile_sizes
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.triton_common.constants import LOG2_E
from support.attention_cases import AttentionCase, Axis

_CASE = AttentionCase(
    Axis(Blocks(4, 1), 5, 5), Axis(Neighborhood(3), 4, 4), group=2, has_row_terms=True, has_col_terms=True
)
_GEOMETRY = Geometry(_CASE.rows.rule, _CASE.cols.rule)


def _launch(grad_lse: torch.Tensor | None) -> tuple[BackwardInputs, torch.Tensor]:
    """Runs the kernel and returns its inputs, in which it wrote its results, and the expected `delta`."""
    operands = Operands(**{name: one.detach() for name, one in _CASE.operands(torch.float32).items()})
    out, lse = fused.forward(operands, _GEOMETRY, 0.4)
    grad_out = torch.linspace(-1, 1, out.numel()).view_as(out)
    gradients = Operands._make(None if one is None else torch.zeros_like(one) for one in operands)
    nothing = torch.full_like(lse, torch.nan)
    scale = 0.4 * LOG2_E.value
    inputs = BackwardInputs(operands, pad_bias(None), out, lse, nothing, grad_out, gradients, scale)
    plan = plan_queries(_GEOMETRY, Grid(*inputs.maps[:2]), Grid(*inputs.maps[2:]), tile_sizes("dq", operands))
    launch_dq(inputs, grad_lse, _GEOMETRY, plan)
    return inputs, (out * grad_out).sum(4) - (0 if grad_lse is None else grad_lse)


def test_delta_without_a_gradient_of_the_log_sum_exps():
    inputs, expected = _launch(None)
    torch.testing.assert_close(inputs.delta, expected)


def test_delta_with_a_gradient_of_the_log_sum_exps():
    grad_lse = torch.randn(4, 5, 2, 1).permute(3, 1, 0, 2)
    inputs, expected = _launch(grad_lse)
    torch.testing.assert_close(inputs.delta, expected)


def test_gradients_of_terms_are_those_of_the_scores_they_are_added_to():
    """Adding a constant to all row terms of a query adds it to all its scores, and so does one in the column terms."""
    inputs, _ = _launch(None)
    gradients = inputs.gradients
    assert gradients.row_terms is not None
    assert gradients.col_terms is not None
    torch.testing.assert_close(gradients.row_terms.sum(4), gradients.col_terms.sum(4), rtol=1e-4, atol=1e-5)
    # A softmax's output does not depend on such a constant.
    torch.testing.assert_close(gradients.row_terms.sum(4), torch.zeros(1, 5, 4, 2), rtol=0, atol=1e-5)
    assert gradients.row_terms.abs().max() > 1e-2
    assert gradients.query.abs().max() > 1e-2


def test_nothing_else_is_written():
    inputs, _ = _launch(None)
    assert not inputs.gradients.key.any()
    assert not inputs.gradients.value.any()
