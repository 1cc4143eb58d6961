"""Which implementation of an operation runs: for a call, for a stretch of code, or for a process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

from ..names import unknown_name

BACKENDS = ("auto", "triton", "torch", "reference")
"""`triton`: the fused GPU kernels. `torch`: plain PyTorch, for CPUs and export. `reference`: the definition, slow."""


class _Choice(threading.local):
    """What the context managers below chose in this thread; torch.compile of torch 2.11 cannot read a ContextVar."""

    backend: str | None = None
    plain: bool = False


_choice = _Choice()


@contextlib.contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Runs every operation inside the `with` block that asks for "auto" on `backend`.

    The environment variable ATTNZOO_BACKEND does the same for a whole process; this goes before it.

    Raises:
        ValueError: if there is no such backend.
    """
    before = _choice.backend
    _choice.backend = _checked(backend)
    try:
        yield
    finally:
        _choice.backend = before


def requested_backend(backend: str) -> str:
    """Resolves a call's `backend` argument: what the call names, else `use_backend`, else ATTNZOO_BACKEND, else "auto".

    Raises:
        ValueError: if there is no such backend.
    """
    if _checked(backend) != "auto":
        return backend
    return _choice.backend or _checked(os.environ.get("ATTNZOO_BACKEND", "auto"), "ATTNZOO_BACKEND")


@contextlib.contextmanager
def plain_operators() -> Iterator[None]:
    """Has operations traced inside the `with` block as torch's own operators instead of one operator of attnzoo's.

    For exporters and compilers that know no operators but torch's; slower than the operator it replaces. ONNX export
    does so by itself. backend="reference" goes before it.
    """
    before = _choice.plain
    _choice.plain = True
    try:
        yield
    finally:
        _choice.plain = before


def plain_operators_requested() -> bool:
    """Whether operations are to consist of torch's own operators: inside `plain_operators` or an ONNX export."""
    return _choice.plain or torch.onnx.is_in_onnx_export()


def _checked(backend: str, kind: str = "backend") -> str:
    if backend not in BACKENDS:
        raise ValueError(unknown_name(kind, backend, BACKENDS))
    return backend
