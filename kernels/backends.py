"""Which implementation of an operation runs: for a call, for a stretch of code, or for a process."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator

from ..names import unknown_name

BACKENDS = ("auto", "triton", "torch", "reference")
"""`triton`: the fused GPU kernels. `torch`: plain PyTorch, for CPUs and export. `reference`: the definition, slow."""

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("attnzoo_backend", default=None)


@contextlib.contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Runs every operation inside the `with` block that asks for "auto" on `backend`.

    The environment variable ATTNZOO_BACKEND does the same for a whole process; this goes before it.

    Raises:
        ValueError: if there is no such backend.
    """
    token = _chosen.set(_checked(backend))
    try:
        yield
    finally:
        _chosen.reset(token)


def requested_backend(backend: str) -> str:
    """Resolves a call's `backend` argument: what the call names, else `use_backend`, else ATTNZOO_BACKEND, else "auto".

    Raises:
        ValueError: if there is no such backend.
    """
    if _checked(backend) != "auto":
        return backend
    return _chosen.get() or _checked(os.environ.get("ATTNZOO_BACKEND", "auto"), "ATTNZOO_BACKEND")


def _checked(backend: str, kind: str = "backend") -> str:
    if backend not in BACKENDS:
        raise ValueError(unknown_name(kind, backend, BACKENDS))
    return backend
