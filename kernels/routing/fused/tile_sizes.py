"""Sizes of tiles and steps, warps and pipeline stages: a fixed table, so that results do not depend on timings."""

from __future__ import annotations

import torch

from ...neighborhood.fused.tile_sizes import Tuning

# By padded dim, then by kernel, None for those that are not named. float16 and bfloat16 are alike.
_HALF: dict[int, dict[str | None, Tuning]] = {
    32: {None: Tuning(64, 32, 4, 2)},
    64: {None: Tuning(64, 32, 4, 2)},
    128: {None: Tuning(64, 32, 4, 2), "keys": Tuning(64, 16, 4, 2)},
    256: {None: Tuning(64, 32, 8, 2)},
}
# Three products of tf32 in place of one of float32 err by about 2^-21. They need many registers; nothing spills so.
_FLOAT32: dict[int, dict[str | None, Tuning]] = {
    32: {None: Tuning(64, 16, 4, 2, "tf32x3"), "queries": Tuning(32, 16, 4, 2, "tf32x3")},
    64: {
        None: Tuning(32, 16, 8, 2, "tf32x3"),
        "forward": Tuning(32, 16, 4, 2, "tf32x3"),
        "keys": Tuning(16, 16, 4, 2, "tf32x3"),
    },
    128: {
        None: Tuning(32, 16, 8, 2),
        "forward": Tuning(32, 16, 4, 2, "tf32x3"),
        "keys": Tuning(16, 16, 8, 2, "tf32x3"),
    },
}


def largest_dim(dtype: torch.dtype) -> int:
    """The largest dim that the kernels take."""
    return max(_FLOAT32 if dtype == torch.float32 else _HALF)


def tuning(kernel: str, dtype: torch.dtype, dim: int) -> Tuning:
    """Looks up a kernel's sizes: "forward", "queries" or "keys"; `dim` is padded."""
    table = _FLOAT32 if dtype == torch.float32 else _HALF
    kernels = table[min(known for known in table if known >= dim)]
    return kernels.get(kernel, kernels[None])
