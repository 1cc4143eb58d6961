"""Compiles the fused kernels for GPUs that this machine does not have, and reads which resources they need.

`PYTHONPATH=tests python -m support.ahead_of_time` prints the table of kernels/neighborhood/fused/README.md.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import AxisRule, Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands
from attnzoo.kernels.triton_common import checks, launch, tile_sizes
from attnzoo.kernels.triton_common.tile_sizes import DeviceLimits

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


SHARED_MEMORY = {
    arch: kib * 1024 for arch, kib in ((75, 64), (80, 163), (86, 99), (89, 99), (90, 227), (100, 227), (120, 99))
}
"""Bytes of shared memory that a program can have, by compute capability times ten."""


@dataclass(frozen=True)
class Resources:
    """Resources of a compiled kernel: registers and spilled bytes per thread, bytes of shared memory per program."""

    registers: int
    spilled: int
    shared: int


class _Driver:
    """Driver of a GPU that is absent. Compilation only asks it for the architecture."""

    def __init__(self, arch: int):
        self._arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._arch, 32)

    def get_current_device(self) -> int:
        # Compiled kernels are cached by device; no real one has this number.
        return 1000 + self._arch

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def _absent_gpu(arch: int) -> Iterator[None]:
    """Makes a GPU that is absent Triton's device, and its limits those of every device."""
    active = driver._active
    driver.set_active(_Driver(arch))  # pyright: ignore[reportArgumentType] - the few methods that are called
    limits = DeviceLimits(SHARED_MEMORY[arch], arch)
    try:
        with (
            mock.patch.object(tile_sizes, "device_limits", return_value=limits),
            mock.patch.object(checks, "device_limits", return_value=limits),
        ):
            yield
    finally:
        driver._active = active


@contextlib.contextmanager
def recorded(arch: int) -> Iterator[dict[str, Resources]]:
    """Compiles kernels instead of launching them inside the `with` block, and yields their resources by name."""
    found: dict[str, Resources] = {}

    def compile_only(kernel, grid, device, arguments, **options):
        compiled = kernel.warmup(*arguments, grid=grid, **options)
        found[kernel.__name__] = _resources(compiled)

    with _absent_gpu(arch), mock.patch.object(launch, "run", compile_only):
        yield found


@contextlib.contextmanager
def variants() -> Iterator[dict[str, set[str]]]:
    """Yields, by kernel, the keys under which launches inside the `with` block would be compiled. Compiles nothing."""
    found: dict[str, set[str]] = {}

    def record(kernel, grid, device, arguments, **options):
        device_number = _Driver(90).get_current_device()
        *_, binder = kernel.device_caches[device_number]
        _, specialization, chosen = binder(*arguments, **options, debug=False)
        found.setdefault(kernel.__name__, set()).add(f"{specialization} {chosen}")

    with _absent_gpu(90), mock.patch.object(launch, "run", record):
        yield found


def compile_kernels(
    arch: int,
    dtype: torch.dtype,
    dim: int,
    *,
    kernel_size: int = 7,
    has_rpb: bool = True,
    tokens: int = 0,
    has_terms: bool = False,
    rule: AxisRule | None = None,
    backward: bool = True,
) -> dict[str, Resources]:
    """Compiles the kernels of a call and of its backward pass, and returns their resources by name.

    Args:
        arch: Compute capability times ten.
        dtype: Dtype of the operands.
        dim: Dim of queries, keys and values.
        kernel_size: Kernel size along both axes.
        has_rpb: Whether the call has a bias table.
        tokens: Number of additional keys.
        has_terms: Whether the call has row and column terms.
        rule: Rule of both axes; a neighborhood of `kernel_size` by default.
        backward: Whether to compile the backward pass as well.
    """
    rule = rule or Neighborhood(kernel_size)
    query = torch.empty(2, 28, 28, 2, dim, dtype=dtype)
    rpb = torch.empty(2, rule.bias_length, rule.bias_length) if has_rpb else None
    terms = torch.empty(2, 28, 28, 2, rule.bias_length, dtype=dtype) if has_terms else None
    additional = torch.empty(2, tokens, 2, dim, dtype=dtype) if tokens else None
    operands = Operands(query, query, query, rpb, terms, terms, additional, additional)
    with recorded(arch) as found:
        out, lse = fused.forward(operands, Geometry(rule, rule), 1.0)
        if backward:
            fused.backward(out, None, operands, out, lse, Geometry(rule, rule), 1.0)
    return found


def _resources(compiled) -> Resources:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(_TOOLS / "cuobjdump"), "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    registers, spilled = (int(re.findall(rf"\b{name}:(\d+)", text)[0]) for name in ("REG", "STACK"))
    return Resources(registers, spilled, compiled.metadata.shared)


def _print_table() -> None:
    print("| arch | dtype | dim | " + " | ".join(_KERNELS) + " |")
    print("|---" * (3 + len(_KERNELS)) + "|")
    for arch, dtype, dim in itertools.product((80, 90), (torch.bfloat16, torch.float16, torch.float32), (32, 64, 128)):
        plain, biased, with_tokens = (
            compile_kernels(arch, dtype, dim, has_rpb=has_rpb, tokens=tokens)
            for has_rpb, tokens in ((False, 0), (True, 0), (False, 8))
        )
        cells = []
        for name in _KERNELS:
            found = [one[name] for one in (plain, biased) if name in one] or [with_tokens[name]]
            cells.append("; ".join(f"{one.registers} / {one.spilled} / {one.shared / 1024:.0f}" for one in found))
        print(f"| sm_{arch} | {str(dtype).removeprefix('torch.')} | {dim} | " + " | ".join(cells) + " |", flush=True)


_KERNELS = ("forward_kernel", "dq_kernel", "dkv_kernel", "bias_kernel", "additional_kernel")

if __name__ == "__main__":
    _print_table()
