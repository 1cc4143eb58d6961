from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.routing.fused.tile_sizes import TABLES


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_sizes_are_powers_of_two_that_products_support(dtype):
    for kernels in TABLES.table(dtype).values():
        assert set(kernels) <= {None, "forward", "dq", "dkv"}
        for sizes in kernels.values():
            for size in (sizes.tile, sizes.step):
                assert size >= 16
                assert size & (size - 1) == 0
