"""Selects the implementation that runs for given operands, and the dtypes that it computes in."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import warnings
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any, TypeVar

import torch

_OperandsT = TypeVar("_OperandsT", bound=tuple)


def select_backend(
    operands: tuple[Any, ...], backend: str, cpu: ModuleType, load_fused: Callable[[], ModuleType]
) -> ModuleType:
    """Returns the module whose `forward` and `backward` run for given operands.

    Args:
        operands: Operands of the operation, the query first.
        backend: "auto", "triton" or "torch".
        cpu: The operation in plain PyTorch.
        load_fused: Imports the operation's Triton kernels. Called only where they can run. Their module's function
            `unsupported` returns what they support if it excludes the operands, and None otherwise.

    Raises:
        ValueError: If "triton" is requested and cannot run here.
    """
    query = operands[0]
    if backend == "torch" or (backend == "auto" and (query.device.type != "cuda" or query.dtype == torch.float64)):
        return cpu
    problem = _triton_problem(query.device.type)
    if problem is not None and backend == "triton":
        raise ValueError(f'backend="triton" cannot run here: {problem}')
    if problem is None:
        fused = load_fused()
        unsupported = None if backend == "triton" else fused.unsupported(operands)
        if unsupported is None:
            return fused
        problem = f"they support {unsupported}"
    _warn_once(problem)
    return cpu


def _triton_problem(device_type: str) -> str | None:
    """Returns why the fused kernels cannot run on a kind of device, or None if they can."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device_type != "cuda" and not interpreted:
        return (
            f"the operands are on a {device_type} device, and the fused kernels run on CUDA devices "
            '(elsewhere only in Triton\'s interpreter: TRITON_INTERPRET=1). Use backend="auto" or "torch".'
        )
    if not _has_triton():
        return "the package triton is not installed. Install it: pip install triton"
    if not interpreted and not _has_compiler(os.environ.get("CC"), os.environ.get("PATH")):
        return (
            "Triton needs a C compiler to build the code that launches its kernels, and none was found. "
            "Install one (apt-get install gcc, or dnf install gcc), or set the environment variable CC to its path."
        )
    return None


@functools.cache
def _has_compiler(command: str | None, path: str | None) -> bool:
    """Whether there is a C compiler: `command`, or one on the PATH. Searching takes longer than launching a kernel."""
    return bool(command) or any(shutil.which(name, path=path) for name in ("gcc", "clang", "cc"))


@functools.cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401 - only tests whether the import works
    except ImportError:
        return False
    return True


@functools.cache
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"attnzoo's fused kernels cannot run here: {problem} Attention runs in plain PyTorch instead, which is several "
        'times slower; backend="torch" selects it without this warning.',
        RuntimeWarning,
        stacklevel=2,
    )


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Returns the dtype that autocast computes products in on a device, or None where it is disabled or unknown."""
    # Not torch.amp.is_autocast_available, which torch.compile in torch 2.11 cannot trace.
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return None


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Disables autocast inside an operator, where it would still change dtypes."""
    if autocast_dtype(device_type) is None:
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)


def cast_for_autocast(operands: _OperandsT, fields: Collection[str]) -> _OperandsT:
    """Casts operands as autocast casts those of matrix products: integers and float64 keep their dtype.

    Args:
        operands: NamedTuple whose first field is the query.
        fields: Names of the fields to cast. Others (biases) keep their dtype.
    """
    dtype = autocast_dtype(operands[0].device.type)
    if dtype is None:
        return operands
    names: tuple[str, ...] = operands._fields  # pyright: ignore[reportAttributeAccessIssue] - a NamedTuple
    kind: Any = type(operands)
    cast = [
        one.to(dtype)
        if name in fields and one is not None and one.is_floating_point() and one.dtype != torch.float64
        else one
        for name, one in zip(names, operands, strict=True)
    ]
    return kind(*cast)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype of scores and sums for operands of `dtype`: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
