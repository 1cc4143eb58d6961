"""What every operation's operator needs: which implementation runs for its operands, and in which dtype."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch


def implementation(
    query: torch.Tensor, backend: str, portable: ModuleType, load_fused: Callable[[], ModuleType]
) -> ModuleType:
    """The module whose `forward` and `backward` run for operands like `query`.

    Args:
        query: any operand of the operation.
        backend: "auto", "triton" or "torch".
        portable: the operation in plain PyTorch.
        load_fused: imports its Triton kernels; called where they can run.

    Raises:
        ValueError: if "triton" is asked for and cannot run here.
    """
    if backend == "torch" or (backend == "auto" and (query.device.type != "cuda" or query.dtype == torch.float64)):
        return portable
    problem = _obstacle(query.device.type)
    if problem is None:
        return load_fused()
    if backend == "triton":
        raise ValueError(f'backend="triton" cannot run here: {problem}')
    _warn_once(problem)
    return portable


def _obstacle(device_type: str) -> str | None:
    """What keeps the fused kernels from running on a kind of device; None where nothing does."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device_type != "cuda" and not interpreted:
        return (
            f"the operands are on a {device_type} device and the fused kernels run on CUDA devices "
            '(elsewhere only in Triton\'s interpreter: TRITON_INTERPRET=1). Use backend="auto" or "torch".'
        )
    if not _has_triton():
        return "the package triton is not installed. Install it: pip install triton"
    if not interpreted and not (os.environ.get("CC") or any(map(shutil.which, ("gcc", "clang", "cc")))):
        return (
            "Triton needs a C compiler to build the code that launches its kernels, and found none. "
            "Install one (apt-get install gcc, or dnf install gcc), or name one in the environment variable CC."
        )
    return None


@functools.cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401 - whether it imports is the question
    except ImportError:
        return False
    return True


@functools.cache
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"attnzoo's fused kernels cannot run here: {problem} Until then attention runs in plain PyTorch, several times "
        'slower; backend="torch" asks for that without this warning.',
        RuntimeWarning,
        stacklevel=2,
    )


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The dtype that autocast gives to products on a kind of device; None where it is off or unknown (meta)."""
    # Not torch.amp.is_autocast_available, which torch.compile of torch 2.11 cannot trace.
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return None


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Keeps autocast from changing dtypes inside the operator, where it would still act."""
    if autocast_dtype(device_type) is None:
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)


def cast_for_autocast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Casts an operand to autocast's dtype where autocast would: float64 and integers stay as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of scores and sums for operands of `dtype`: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
