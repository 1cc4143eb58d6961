from __future__ import annotations

from unittest import mock

import pytest
import torch

from attnzoo.kernels.triton_common import checks
from attnzoo.kernels.triton_common.checks import check_operands, without_bfloat16
from attnzoo.kernels.triton_common.tile_sizes import DeviceLimits, TileSizes, TileTables

_TABLES = TileTables(half={64: {None: TileSizes(64, 32, 4, 2)}}, float32={32: {None: TileSizes(64, 32, 4, 2)}})


@pytest.mark.parametrize(
    ("dtype", "dim", "dim_v", "message"),
    [
        (torch.float64, 4, 4, r"supports torch.float32, .*, got operands of torch.float64.*backend=.torch"),
        (torch.float32, 33, 4, r"dims <= 32, got dim 33 for query and key\. Use backend=.torch"),
        (torch.bfloat16, 4, 65, "dims <= 64, got dim 65 for value"),
    ],
)
def test_unsupported_operands(dtype, dim, dim_v, message):
    query, value = torch.zeros(1, 2, 2, 1, dim, dtype=dtype), torch.zeros(1, 2, 2, 1, dim_v, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        check_operands(query, value, _TABLES)


@pytest.mark.parametrize(("dtype", "dim"), [(torch.float32, 32), (torch.float16, 64), (torch.bfloat16, 1)])
def test_supported_operands(dtype, dim):
    query = torch.zeros(1, 2, 2, 1, dim, dtype=dtype)
    check_operands(query, query, _TABLES)


@pytest.mark.parametrize(
    ("dtype", "dim", "message"),
    [
        (torch.bfloat16, 8, "no operands of torch.bfloat16 on a GPU of compute capability 7.5; it needs a newer GPU."),
        (
            torch.float16,
            33,
            "torch.float16 dims <= 32 on a GPU of compute capability 7.5, got dim 33 for query and key.",
        ),
        (torch.float16, 32, None),
    ],
)
def test_what_old_gpus_support(dtype, dim, message):
    tables = TileTables(half={size: {None: TileSizes(64, 32, 4, 2)} for size in (32, 64)}, float32={})
    query = torch.zeros(1, 2, 2, 1, dim, dtype=dtype)
    with mock.patch.object(checks, "device_limits", return_value=DeviceLimits(64 * 1024, 75)):
        assert checks.unsupported(query, query, tables) == message


def test_operands_are_not_cast_outside_the_interpreter():
    tensor = torch.zeros(2, dtype=torch.bfloat16)
    assert without_bfloat16(tensor) is tensor
