"""Compiles the fused kernels for GPUs that are not there, and reads what the result needs.

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
from attnzoo.kernels.triton_common import launch

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel needs: registers of a thread, bytes spilled by it, bytes of shared memory of a program."""

    registers: int
    spilled: int
    shared: int


class _Driver:
    """Stands for a GPU: all that compilation asks of one is what it is."""

    def __init__(self, arch: int):
        self._arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._arch, 32)

    def get_current_device(self) -> int:
        # Kernels are kept by device; no real one has this number.
        return 1000 + self._arch

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def recorded(arch: int) -> Iterator[dict[str, Resources]]:
    """Compiles what would be started in the `with` block instead of starting it."""
    found: dict[str, Resources] = {}

    def compile_only(kernel, grid, device, arguments, **options):
        compiled = kernel.warmup(*arguments, grid=grid, **options)
        found[kernel.__name__] = _resources(compiled)

    active = driver._active
    driver.set_active(_Driver(arch))  # pyright: ignore[reportArgumentType] - the few methods that are called
    try:
        with mock.patch.object(launch, "run", compile_only):
            yield found
    finally:
        driver._active = active


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
    """Compiles the kernels that a call and its backward pass start, as they would be started, by their names.

    Args:
        arch: compute capability times ten.
        dtype: of the operands.
        dim: of queries, keys and values.
        kernel_size: along both axes.
        has_rpb: whether there is a bias table.
        tokens: number of additional keys.
        has_terms: whether there are row and column terms.
        rule: of both axes; a neighborhood of `kernel_size` by default.
        backward: whether to compile the backward pass as well.
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
