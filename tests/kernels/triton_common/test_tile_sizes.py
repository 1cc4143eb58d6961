from __future__ import annotations

from unittest import mock

import pytest
import torch

from attnzoo.kernels.neighborhood.fused import tile_sizes as neighborhood
from attnzoo.kernels.routing.fused import tile_sizes as routing
from attnzoo.kernels.triton_common import tile_sizes
from attnzoo.kernels.triton_common.tile_sizes import (
    DeviceLimits,
    TileSizes,
    TileTables,
    choose_tile_sizes,
    fit_to_shared_memory,
)

_SMALL, _LARGE, _KEYS = TileSizes(16, 16, 2, 2), TileSizes(64, 32, 4, 2), TileSizes(32, 32, 4, 2, "tf32x3")
_TABLES = TileTables(half={32: {None: _SMALL}, 128: {None: _LARGE}}, float32={32: {None: _SMALL, "dkv": _KEYS}})


def _vectors(dim: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.empty(1, dim, dtype=dtype)


def test_the_longer_of_the_padded_dims_chooses_the_row():
    assert choose_tile_sizes(_TABLES, "forward", _vectors(24), _vectors(32)) == _SMALL
    assert choose_tile_sizes(_TABLES, "forward", _vectors(24), _vectors(33)) == _LARGE
    assert choose_tile_sizes(_TABLES, "forward", _vectors(100), _vectors(8)) == _LARGE


def test_kernels_without_a_row_of_their_own_share_one():
    vectors = _vectors(8, torch.float32)
    assert choose_tile_sizes(_TABLES, "dkv", vectors, vectors) == _KEYS
    assert choose_tile_sizes(_TABLES, "dq", vectors, vectors) == _SMALL


def test_max_dim_depends_on_the_dtype():
    assert tile_sizes.max_dim(_TABLES, torch.bfloat16) == 128
    assert tile_sizes.max_dim(_TABLES, torch.float32) == 32


@pytest.mark.parametrize(
    ("capability", "kib", "dtype", "expected"),
    [
        (90, 227, torch.float16, 128),
        (80, 10, torch.float16, 32),  # the smallest tile must fit
        (80, 1, torch.float16, 0),
        (75, 64, torch.float16, 32),
        (75, 64, torch.bfloat16, 0),
        (75, 64, torch.float32, 0),
        (70, 96, torch.float16, 0),
    ],
)
def test_max_dim_depends_on_the_gpu(capability, kib, dtype, expected):
    assert tile_sizes.max_dim(_TABLES, dtype, DeviceLimits(kib * 1024, capability)) == expected


def test_smaller_tiles_take_fewer_warps():
    assert _LARGE.launch_options(64) == {"PRECISION": "ieee", "num_warps": 4, "num_stages": 2}
    assert _LARGE.launch_options(32)["num_warps"] == 2
    assert _LARGE.launch_options(1)["num_warps"] == 1


def test_a_gpu_with_little_shared_memory_gets_smaller_steps_and_tiles():
    vectors = _vectors(128)
    with mock.patch.object(tile_sizes, "device_limits", return_value=DeviceLimits(48 * 1024, 80)):
        sizes = choose_tile_sizes(_TABLES, "forward", vectors, vectors)
    assert sizes == _LARGE._replace(step=16)
    assert fit_to_shared_memory(_LARGE, 24 * 1024, 128, 2) == TileSizes(16, 16, 1, 2)


def test_no_size_falls_below_what_a_product_needs():
    assert fit_to_shared_memory(_LARGE, 0, 256, 4) == TileSizes(16, 16, 1, 2)


@pytest.mark.parametrize("available", [99 * 1024, 163 * 1024, 227 * 1024])
def test_the_tables_hold_unchanged_on_common_gpus(available):
    tables = [neighborhood.TABLES, neighborhood.TABLES_WITH_TERMS, routing.TABLES]
    for dtype in (torch.float16, torch.float32):
        for dim, kernels in [item for table in tables for item in table.table(dtype).items() if item[0] <= 128]:
            for sizes in kernels.values():
                assert fit_to_shared_memory(sizes, available, dim, dtype.itemsize) == sizes


def test_a_cpu_has_no_limit():
    assert tile_sizes.device_limits(torch.device("cpu")) is None
