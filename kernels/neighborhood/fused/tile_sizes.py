"""Sizes of tiles and steps, warps and pipeline stages: a fixed table, so that results do not depend on timings."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tuning(NamedTuple):
    """How a kernel is cut up.

    Attributes:
        tile: slots of the side that a program owns.
        step: slots of the other side that it takes at a time.
        warps: warps of a program whose tile is full.
        stages: steps whose loads are under way at a time.
        precision: how matrix products of float32 are taken, "ieee" or "tf32x3".
    """

    tile: int
    step: int
    warps: int
    stages: int
    precision: str = "ieee"


# By padded dim, then by kernel, None for those that are not named. float16 and bfloat16 are alike. At dim 32, small
# tiles waste fewer scores on pairs that do not see each other; from dim 64 on, loading keys weighs more.
_HALF: dict[int, dict[str | None, Tuning]] = {
    32: {None: Tuning(32, 32, 2, 2)},
    64: {None: Tuning(64, 32, 4, 2)},
    128: {None: Tuning(64, 32, 4, 2), "keys": Tuning(64, 16, 4, 2)},
    256: {None: Tuning(64, 32, 8, 2)},
}
# Three products of tf32 in place of one of float32 err by about 2^-21. They need so many registers that where there are
# several sums or long vectors, plain float32 arithmetic takes no more instructions and does not spill.
_FLOAT32: dict[int, dict[str | None, Tuning]] = {
    32: {
        None: Tuning(64, 16, 4, 2, "tf32x3"),
        "forward": Tuning(32, 16, 2, 2, "tf32x3"),
        "queries": Tuning(32, 16, 2, 2, "tf32x3"),
        "bias": Tuning(32, 32, 4, 2),
    },
    64: {
        None: Tuning(32, 16, 4, 2, "tf32x3"),
        "keys": Tuning(32, 16, 8, 2, "tf32x3"),
        "bias": Tuning(32, 32, 4, 2),
    },
    128: {
        None: Tuning(32, 16, 8, 2),
        "forward": Tuning(32, 16, 4, 2, "tf32x3"),
        "keys": Tuning(16, 16, 8, 2, "tf32x3"),
        "bias": Tuning(32, 32, 4, 2),
        "additional": Tuning(32, 32, 8, 2),
    },
}


# With terms that depend on the query, two more numbers a score and the sums of their gradients take registers.
_HALF_WITH_TERMS: dict[int, dict[str | None, Tuning]] = {
    32: {None: Tuning(32, 16, 2, 2)},
    64: {None: Tuning(32, 32, 4, 2)},
    128: {None: Tuning(32, 16, 4, 2)},
    256: {None: Tuning(32, 16, 8, 2)},
}
_FLOAT32_WITH_TERMS: dict[int, dict[str | None, Tuning]] = {
    32: {None: Tuning(32, 16, 4, 2, "tf32x3")},
    64: {None: Tuning(32, 16, 8, 2), "bias": Tuning(16, 16, 8, 2)},
    128: {None: Tuning(16, 16, 8, 2)},
}


def largest_dim(dtype: torch.dtype) -> int:
    """The largest dim that the kernels take."""
    return max(_FLOAT32 if dtype == torch.float32 else _HALF)


def tuning(kernel: str, dtype: torch.dtype, dim: int, has_terms: bool = False) -> Tuning:
    """Looks up a kernel's sizes: "forward", "queries", "keys", "bias" or "additional"; `dim` is padded."""
    if dtype == torch.float32:
        table = _FLOAT32_WITH_TERMS if has_terms else _FLOAT32
    else:
        table = _HALF_WITH_TERMS if has_terms else _HALF
    kernels = table[min(known for known in table if known >= dim)]
    return kernels.get(kernel, kernels[None])
