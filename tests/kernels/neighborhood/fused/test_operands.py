from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.fused.operands import computable, strided_operands, unsupported
from attnzoo.kernels.neighborhood.geometry import Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands


@pytest.mark.parametrize(
    ("dtype", "dim", "dim_v", "message"),
    [
        (torch.float64, 4, 4, r"supports torch.float32, .*, got operands of torch.float64.*backend=.torch"),
        (torch.float32, 129, 4, "dims <= 128, got dim 129 for query and key"),
        (torch.bfloat16, 4, 300, "dims <= 256, got dim 300 for value"),
    ],
)
def test_unsupported_operands(dtype, dim, dim_v, message):
    query, value = torch.zeros(1, 2, 2, 1, dim, dtype=dtype), torch.zeros(1, 2, 2, 1, dim_v, dtype=dtype)
    operands, geometry = Operands(query, query, value), Geometry(Neighborhood(2), Neighborhood(2))
    with pytest.raises(ValueError, match=message):
        fused.forward(operands, geometry, 1.0)
    with pytest.raises(ValueError, match=message):
        fused.backward(value, None, operands, value, value[..., 0], geometry, 1.0)


@pytest.mark.parametrize(("dtype", "dim"), [(torch.float32, 128), (torch.bfloat16, 256)])
def test_the_largest_dims(dtype, dim):
    short, fits, long = (torch.empty(1, 2, 2, 1, size, dtype=dtype) for size in (4, dim, dim + 1))
    assert unsupported(Operands(fits, fits, short)) is None
    assert f"dims <= {dim}" in str(unsupported(Operands(long, long, short)))
    assert f"dims <= {dim}" in str(unsupported(Operands(short, short, long)))


def test_kernels_receive_strides_and_no_bias_table():
    query = torch.empty(2, 5, 4, 3, 8).permute(0, 2, 1, 3, 4)
    operands = Operands(query, query, query, rpb=torch.empty(3, 5, 5), additional_keys=torch.empty(2, 7, 3, 8))
    strided = strided_operands(operands)
    assert strided.query.data is query
    assert strided.query.strides == (480, 24, 96, 8, 1)
    assert strided.additional_keys.strides == (168, 24, 8, 1)
    assert strided.rpb is strided.row_terms is strided.additional_values is None


def test_operands_are_computed_with_as_they_are_outside_the_interpreter():
    query = torch.empty(1, 2, 2, 1, 4, dtype=torch.bfloat16)
    operands = Operands(query, query, query)
    assert all(one is other for one, other in zip(computable(operands), operands, strict=True))
