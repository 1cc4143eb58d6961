"""Selects the backend of operations: per call, per `with` block, or per process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

from ..names import unknown_name

BACKENDS = ("auto", "triton", "torch", "reference")
"""`triton`: the fused GPU kernels. `torch`: plain PyTorch, fast on CPUs. `reference`: the definition, slow."""


class _Selection(threading.local):
    """What the context managers below selected in this thread (torch.compile in torch 2.11 cannot read ContextVars)."""

    backend: str | None = None
    exportable: bool = False


_selection = _Selection()


@contextlib.contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Runs every operation inside the `with` block that asks for "auto" on `backend`.

    The environment variable ATTNZOO_BACKEND does the same for a whole process; `use_backend` takes precedence over it.

    Raises:
        ValueError: If the backend does not exist.
    """
    previous = _selection.backend
    _selection.backend = _checked(backend)
    try:
        yield
    finally:
        _selection.backend = previous


def requested_backend(backend: str) -> str:
    """Resolves the `backend` argument of a call.

    A backend named in the call takes precedence over `use_backend`, which takes precedence over ATTNZOO_BACKEND.

    Raises:
        ValueError: If the backend does not exist.
    """
    if _checked(backend) != "auto":
        return backend
    return _selection.backend or _checked(os.environ.get("ATTNZOO_BACKEND", "auto"), "ATTNZOO_BACKEND")


@contextlib.contextmanager
def exportable_operators() -> Iterator[None]:
    """Traces operations inside the `with` block as PyTorch's own operators instead of attnzoo's custom operators.

    For exporters and compilers that support PyTorch's operators only; slower than the operators that it replaces. ONNX
    export does this without being asked. backend="reference" takes precedence.
    """
    previous = _selection.exportable
    _selection.exportable = True
    try:
        yield
    finally:
        _selection.exportable = previous


plain_operators = exportable_operators
"""Earlier name of `exportable_operators`."""


def exportable_operators_requested() -> bool:
    """Returns whether operations must consist of PyTorch's own operators: see `exportable_operators`."""
    return _selection.exportable or torch.onnx.is_in_onnx_export()


def _checked(backend: str, kind: str = "backend") -> str:
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(unknown_name(kind, backend, BACKENDS))
    return backend
