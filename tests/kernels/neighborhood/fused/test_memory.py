"""What the kernels read and write: any strides, no uninitialized memory, the same results each time."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.triton_common.addressing import needs_int64_offsets
from support.attention_cases import AttentionCase, Axis
from support.kernel_cases import relative_error

_NAN = float("nan")
_AXES = (Axis(Neighborhood(2, dilation=2), 5, 5), Axis(Blocks(2, 1), 2, 2))
_CASE = AttentionCase(
    *_AXES, heads_kv=1, group=2, dim=5, dim_v=6, has_rpb=True, tokens=3, has_row_terms=True, has_col_terms=True
)


def _operands(case: AttentionCase) -> list[Any]:
    drawn = case.operands(torch.float32)
    names = ("query", "key", "value", "rpb", "row_terms", "col_terms", "additional_keys", "additional_values")
    return [drawn[name].detach() if name in drawn else None for name in names]


@functools.cache
def _expected() -> list[torch.Tensor]:
    return _run(_operands(_CASE))


def _run(operands: list[Any], case: AttentionCase = _CASE, upstream: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Computes outputs and gradients without the public function and its checks."""
    geometry = Geometry(case.rows.rule, case.cols.rule)
    out, lse = fused.forward(Operands(*operands), geometry, 0.4)
    if upstream is None:
        upstream = torch.linspace(-1, 1, out.numel()).view_as(out)
    grad_lse = lse.detach().cos()
    gradients = fused.backward(upstream.to(out.dtype), grad_lse, Operands(*operands), out, lse, geometry, 0.4)
    return [one for one in (out, lse, *gradients) if one is not None]


def _assert_equal(results: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one, other)


def _scattered(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Copies a tensor into memory with other strides, surrounded by NaN."""
    if tensor is None:
        return None
    order = list(reversed(range(tensor.ndim)))
    around = torch.full([size * 2 + 1 for size in tensor.permute(order).shape], _NAN)
    inner = around[tuple(slice(1, None, 2) for _ in range(tensor.ndim))]
    inner.copy_(tensor.permute(order))
    return inner.permute(order)


def test_any_strides_and_nothing_besides_the_operands():
    operands = _operands(_CASE)
    scattered = [_scattered(one) for one in operands]
    assert not any(one.is_contiguous() for one in scattered if one is not None)
    _assert_equal(_run(scattered), _expected())


def test_expanded_gradients_of_a_sum():
    operands = _operands(_CASE)
    expanded = torch.ones(()).expand(1, 5, 2, 2, 6)
    _assert_equal(_run(operands, upstream=expanded), _run(operands, upstream=expanded.contiguous()))


def test_every_output_is_written():
    expected = _expected()

    def poisoned(allocate):
        def allocate_nan(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(_NAN) if tensor.is_floating_point() else tensor

        return allocate_nan

    with (
        mock.patch.object(torch, "empty", poisoned(torch.empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
        mock.patch.object(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty)),
    ):
        _assert_equal(_run(_operands(_CASE)), expected)


def test_results_are_the_same_each_time_and_operands_unchanged():
    operands = _operands(_CASE)
    before = [one.clone() for one in operands]
    _assert_equal(_run(operands), _expected())
    for one, old in zip(operands, before, strict=True):
        assert torch.equal(one, old)


def test_invisible_keys_do_not_matter():
    case = AttentionCase(Axis(Neighborhood(2), 12, 12), Axis(Neighborhood(2), 3, 3), dim=4, dim_v=4)
    operands = _operands(case)
    expected = _run(operands, case)
    for key_or_value in operands[1:3]:
        key_or_value[:, 11] *= 1e4
    changed = _run(operands, case)
    # Rows 0 to 9 see no more than row 10.
    assert torch.equal(changed[0][:, :10], expected[0][:, :10])
    assert not torch.equal(changed[0][:, 11], expected[0][:, 11])


def test_offsets_beyond_32_bits():
    """Rows 2^30 elements apart. The system provides only those of the 4 GiB that are written."""
    axis = Axis(Neighborhood(2), 3, 3)
    case = AttentionCase(axis, axis, dim=16, dim_v=16, has_rpb=True, tokens=2)
    operands: list[Any] = [None if one is None else one.half() for one in _operands(case)]
    operands, rest = operands[:3], operands[3:]
    storage = torch.empty(2**31 + 2**12, dtype=torch.float16)
    far = storage.as_strided((3, 1, 3, 3, 1, 16), (256, 0, 2**30, 32, 16, 1))
    far.copy_(torch.stack(operands))
    assert needs_int64_offsets(far[0])
    _assert_equal(_run([*far, *rest], case), _run([*operands, *rest], case))


def test_no_images_and_no_tokens():
    case = AttentionCase(*_AXES, batch=0, dim=4, dim_v=4, has_rpb=True)
    out, _, _, _, _, grad_rpb = _run(_operands(case), case)
    assert out.numel() == 0
    assert not grad_rpb.any()
    operands = _operands(AttentionCase(*_AXES, dim=4, dim_v=4))
    empty = torch.empty(1, 0, 1, 4)
    with_none = _run([*operands[:6], empty, empty])
    for one, other in zip(_run(operands), with_none, strict=False):
        assert relative_error(one, other) < 1e-6
