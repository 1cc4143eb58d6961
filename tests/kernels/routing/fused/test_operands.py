from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.operands import Operands


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
    operands = Operands(query, query, value, torch.zeros(1, 1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        fused.forward(operands, (1, 1), 1.0)
    with pytest.raises(ValueError, match=message):
        fused.backward(value, operands, value, value[..., 0], (1, 1), 1.0)
    if dtype != torch.float64:
        assert message in str(fused.unsupported(operands))
