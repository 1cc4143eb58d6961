"""The kernels compiled for GPUs: registers, spills and shared memory stay within each architecture's limits."""

from __future__ import annotations

import itertools

import pytest
import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.operands import Operands
from attnzoo.kernels.triton_common import launch
from support.ahead_of_time import SHARED_MEMORY, variants
from support.routing_ahead_of_time import KERNELS, STAGES, compile_kernels

pytestmark = pytest.mark.skipif(launch.is_interpreted(), reason="compilation needs a process without TRITON_INTERPRET")


def _check(arch: int, dtype: torch.dtype, dim: int, allowed: int = 0, **options) -> None:
    found = compile_kernels(arch, dtype, dim, **options)
    assert set(found) == set(KERNELS)
    for name, needed in found.items():
        assert needed.spilled <= allowed, f"{name}: {needed}"
        assert needed.shared <= SHARED_MEMORY[arch], f"{name}: {needed}"
        assert 0 < needed.registers <= 255, f"{name}: {needed}"


@pytest.mark.parametrize(("arch", "mode"), [(80, "masked"), (90, "routed")])
def test_training(arch, mode):
    side, topk = STAGES[mode]
    _check(arch, torch.bfloat16, 32, side=side, topk=topk)


def test_one_compilation_serves_the_maps_of_detectors():
    with variants() as found:
        for height, width in ((200, 304), (192, 320), (152, 272), (168, 256), (144, 336), (104, 176)):
            query = torch.empty(1, height, width, 2, 32, dtype=torch.float16)
            operands = Operands(query, query, query, torch.zeros(1, 64, 4, dtype=torch.int64))
            out, lse = fused.forward(operands, (8, 8), 1.0)
            fused.backward(out, operands, out, lse, (8, 8), 1.0)
    assert {name: len(keys) for name, keys in found.items()} == dict.fromkeys(KERNELS, 1)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "dtype", "dim"),
    [
        (75, torch.float16, 32),
        *itertools.product((80, 86, 89, 90, 100, 120), (torch.float16,), (128, 256)),
        *itertools.product((86, 89, 100, 120), (torch.float32,), (128,)),
    ],
)
def test_every_architecture(arch, dtype, dim):
    _check(arch, dtype, dim, 96)
