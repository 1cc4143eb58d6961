"""The kernels compiled for GPUs: registers, spills and shared memory stay within each architecture's limits."""

from __future__ import annotations

import itertools

import pytest
import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import Blocks, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.triton_common import launch
from support.ahead_of_time import SHARED_MEMORY, compile_kernels, variants

pytestmark = pytest.mark.skipif(launch.is_interpreted(), reason="compilation needs a process without TRITON_INTERPRET")

_FORWARD = {"forward_kernel"}
_BACKWARD = {"dq_kernel", "dkv_kernel"}
_BIAS = {"pad_kernel", "bias_kernel", "fold_kernel"}


def _check(arch: int, dtype: torch.dtype, dim: int, kernels: set[str], allowed: int = 0, **options) -> None:
    found = compile_kernels(arch, dtype, dim, **options)
    assert set(found) == kernels
    for name, needed in found.items():
        assert needed.spilled <= allowed, f"{name}: {needed}"
        assert needed.shared <= SHARED_MEMORY[arch], f"{name}: {needed}"
        assert 0 < needed.registers <= 255, f"{name}: {needed}"


@pytest.mark.parametrize("arch", [80, 90])
def test_training_with_bias(arch):
    _check(arch, torch.bfloat16, 32, _FORWARD | _BACKWARD | _BIAS)


@pytest.mark.parametrize("arch", [80, 90])
def test_training_with_terms(arch):
    _check(arch, torch.bfloat16, 16, _FORWARD | _BACKWARD, has_rpb=False, has_terms=True, rule=Blocks(8, 3))


def test_calls_without_terms_need_no_more_registers_than_before_terms_existed():
    found = compile_kernels(90, torch.bfloat16, 32, has_rpb=False)
    assert found["forward_kernel"].registers <= 83
    assert found["dq_kernel"].registers <= 111
    assert found["dkv_kernel"].registers <= 144


_MAPS = ((200, 304), (192, 320), (199, 301), (150, 271), (168, 256), (144, 333), (101, 177), (64, 64))


@pytest.mark.parametrize("rule", [Neighborhood(7), Neighborhood(7, dilation=4)])
def test_one_compilation_serves_the_maps_of_detectors(rule):
    with variants() as found:
        for height, width in _MAPS:
            query = torch.empty(1, height, width, 2, 32, dtype=torch.float16)
            operands = Operands(query, query, query, torch.empty(2, 13, 13))
            out, lse = fused.forward(operands, Geometry(rule, rule), 1.0)
            fused.backward(out, None, operands, out, lse, Geometry(rule, rule), 1.0)
    expected = dict.fromkeys(_FORWARD | _BACKWARD | _BIAS, 1) | {
        "pad_kernel": 2
    }  # in the forward and the backward pass
    assert {name: len(keys) for name, keys in found.items()} == expected


@pytest.mark.slow
@pytest.mark.parametrize("has_rpb", [False, True])
@pytest.mark.parametrize(
    ("arch", "dtype", "dim"),
    list(itertools.product((80, 90), (torch.bfloat16, torch.float32), (16, 32, 64, 128))),
)
def test_every_dtype_and_dim_with_terms(arch, dtype, dim, has_rpb):
    # With a bias as well, the compiler runs out of registers by one or two; float32 by a few more.
    allowed = (24 if dim > 32 else 8) if dtype == torch.float32 else 8 if has_rpb else 0
    kernels = _FORWARD | _BACKWARD | (_BIAS if has_rpb else set())
    _check(arch, dtype, dim, kernels, allowed, has_rpb=has_rpb, has_terms=True, rule=Blocks(8, 3))


def test_inference_in_float32():
    _check(80, torch.float32, 32, _FORWARD, has_rpb=False, backward=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "dtype", "dim"),
    list(itertools.product((80, 90), (torch.bfloat16, torch.float16, torch.float32), (32, 64, 128))),
)
def test_every_dtype_and_dim(arch, dtype, dim):
    # Long float32 vectors take all registers: of all sizes that were tried, these spill the fewest bytes.
    allowed = 24 if dtype == torch.float32 and dim > 32 else 0
    for has_rpb, tokens in itertools.product((False, True), (0, 8)):
        kernels = _FORWARD | _BACKWARD | (_BIAS if has_rpb else set()) | ({"additional_kernel"} if tokens else set())
        _check(arch, dtype, dim, kernels, allowed, has_rpb=has_rpb, tokens=tokens)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kernel_size", [2, 3, 5, 13, 28])
@pytest.mark.parametrize("dim", [16, 24, 32])
def test_every_kernel_size(dtype, kernel_size, dim):
    # The compiler spills one or two registers so that more programs run at a time.
    allowed = 8 if dtype == torch.float32 or dim == 24 else 0
    _check(90, dtype, dim, _FORWARD | _BACKWARD | _BIAS, allowed, kernel_size=kernel_size)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize(("dtype", "dim"), [(torch.float16, 256), (torch.float32, 128), (torch.float16, 128)])
def test_the_longest_vectors_fit(arch, dtype, dim):
    _check(arch, dtype, dim, _FORWARD | _BACKWARD | _BIAS | {"additional_kernel"}, 96, tokens=8)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [16, 32])
def test_old_gpus(dim):
    """The compiler of tensor cores without asynchronous copies needs more registers."""
    _check(75, torch.float16, dim, _FORWARD | _BACKWARD | _BIAS, 56)
    with pytest.raises(ValueError, match=r"compute capability 7\.5"):
        compile_kernels(75, torch.bfloat16, dim)
