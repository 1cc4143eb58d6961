from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood.fused.tile_sizes import TABLES, TABLES_WITH_TERMS, tile_sizes
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.triton_common.tile_sizes import TileSizes

_KERNELS = ("forward", "dq", "dkv", "bias", "additional")


def _operands(dim: int, dtype: torch.dtype, has_terms: bool = False) -> Operands:
    query = torch.empty(1, 4, 4, 1, dim, dtype=dtype)
    return Operands(query, query, query, row_terms=torch.empty(1, 4, 4, 1, 5, dtype=dtype) if has_terms else None)


@pytest.mark.parametrize("tables", [TABLES, TABLES_WITH_TERMS])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_sizes_are_powers_of_two_that_products_support(tables, dtype):
    for kernels in tables.table(dtype).values():
        assert set(kernels) <= {None, *_KERNELS}
        for sizes in kernels.values():
            for size in (sizes.tile, sizes.step):
                assert size >= 16
                assert size & (size - 1) == 0


def test_both_tables_have_the_same_dims():
    for dtype in (torch.float16, torch.float32):
        assert set(TABLES.table(dtype)) == set(TABLES_WITH_TERMS.table(dtype))


def test_half_precision_takes_the_same_sizes():
    assert tile_sizes("dkv", _operands(128, torch.bfloat16)) == tile_sizes("dkv", _operands(128, torch.float16))


def test_terms_take_smaller_sizes_except_for_tokens_which_have_none():
    plain, with_terms = _operands(32, torch.float16), _operands(32, torch.float16, has_terms=True)
    assert tile_sizes("dq", with_terms) == TileSizes(32, 16, 2, 2)
    assert tile_sizes("dq", plain) == TileSizes(32, 32, 2, 2)
    assert tile_sizes("additional", with_terms) == tile_sizes("additional", plain)
