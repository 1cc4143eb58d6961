"""The kernels compiled for GPUs: registers, spills and shared memory stay within each architecture's limits."""

from __future__ import annotations

import itertools

import pytest
import torch

from attnzoo.kernels.triton_common import launch
from support.routing_ahead_of_time import KERNELS, STAGES, compile_kernels

pytestmark = pytest.mark.skipif(launch.is_interpreted(), reason="compilation needs a process without TRITON_INTERPRET")

# Bytes of shared memory that a program can have.
_SHARED = {80: 163 * 1024, 90: 227 * 1024}


def _check(arch: int, dtype: torch.dtype, dim: int, allowed: int = 0, **options) -> None:
    found = compile_kernels(arch, dtype, dim, **options)
    assert set(found) == set(KERNELS)
    for name, needed in found.items():
        assert needed.spilled <= allowed, f"{name}: {needed}"
        assert needed.shared <= _SHARED[arch], f"{name}: {needed}"
        assert 0 < needed.registers <= 255, f"{name}: {needed}"


@pytest.mark.parametrize(("arch", "mode"), [(80, "masked"), (90, "routed")])
def test_training(arch, mode):
    side, topk = STAGES[mode]
    _check(arch, torch.bfloat16, 32, side=side, topk=topk)


@pytest.mark.slow
@pytest.mark.parametrize("mode", STAGES)
@pytest.mark.parametrize(
    ("arch", "dtype", "dim"),
    list(itertools.product((80, 90), (torch.bfloat16, torch.float16, torch.float32), (16, 24, 32, 64, 128))),
)
def test_every_dtype_and_dim(arch, dtype, dim, mode):
    side, topk = STAGES[mode]
    # The compiler spills two registers so that more programs run at a time.
    _check(arch, dtype, dim, 8 if dim < 32 else 0, side=side, topk=topk)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("side", [7, 21, 28, 35, 140])
def test_every_size_of_region(dtype, side):
    _check(90, dtype, 32, side=side, topk=1)
