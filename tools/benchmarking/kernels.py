"""Measures the implementations of an operation: agreement, time and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from attnzoo.tools.benchmarking.operations import Implementation, Problem
from attnzoo.tools.benchmarking.precision import TOLERANCES, agree
from attnzoo.zoo.analysis.timing import median_times, peak_memory

PLAIN_COPY = "plain copy"
"""Name of the measurement that copies the tensors which the operation reads and writes."""
DISAGREES = "disagrees"
"""Error of an implementation whose results differ from the reference."""

Rows = dict[str, dict[str, Any]]


def measure_problem(
    problem: Problem,
    dtype: torch.dtype,
    device: torch.device,
    repeats: int,
    only: Collection[str] | None = None,
    on_update: Callable[[Rows], None] = lambda rows: None,
) -> Rows:
    """Measures implementations, and a plain copy of the tensors that they read and write.

    Args:
        problem: The problem to solve.
        dtype: Data type of its operands.
        device: Device of its operands.
        repeats: Number of timed turns per implementation.
        only: Names of the implementations to measure; None measures all.
        on_update: Called with the rows so far whenever something has been measured.

    Returns:
        A row per implementation: `forward_ms`, `train_ms` (forward and backward), `forward_ratio` and `train_ratio`
        (time divided by that of the first implementation, unless the first one failed), `forward_bytes` and
        `train_bytes` (peak memory beyond operands); or `error`.
    """
    rows: Rows = {}
    forwards: dict[str, Callable[[], Any]] = {}
    trainings: dict[str, Callable[[], Any]] = {}
    expected: dict[tuple[str, ...], list[torch.Tensor]] = {}
    for name, implementation in problem.implementations.items():
        if only is not None and name not in only:
            continue
        forward, training = _passes(implementation, problem.operands, problem.out_grad)
        if implementation.operands not in expected:
            expected[implementation.operands] = _expected(problem, implementation.operands)
        rows[name] = _check(forward, training, expected[implementation.operands], TOLERANCES[dtype], device)
        if "error" not in rows[name]:
            forwards[name], trainings[name] = forward, training
        on_update(rows)
    del expected
    reference = next(iter(rows), PLAIN_COPY)
    rows[PLAIN_COPY] = {}
    tensors = [*(problem.operands[name] for name in ("query", "key", "value")), problem.out_grad]
    copies = {"forward": _copy(tensors), "train": _copy(tensors * 2)}  # training also reads and writes four gradients
    for phase, functions in (("forward", forwards), ("train", trainings)):
        times = median_times({**functions, PLAIN_COPY: copies[phase]}, device, repeats)
        for name, milliseconds in times.items():
            rows[name][f"{phase}_ms"] = milliseconds
            if reference in times:
                rows[name][f"{phase}_ratio"] = milliseconds / times[reference]
        on_update(rows)
    return rows


def _check(
    forward: Callable[[], Any],
    training: Callable[[], list[torch.Tensor]],
    expected: list[torch.Tensor],
    tolerance: float,
    device: torch.device,
) -> dict[str, Any]:
    """Checks results and measures peak memory; returns the row, or `error`.

    Raises:
        ValueError: If the arguments are wrong, which affects every implementation.
    """
    try:
        if not agree(training(), expected, tolerance):
            return {"error": DISAGREES}
        return {"forward_bytes": peak_memory(forward, device), "train_bytes": peak_memory(training, device)}
    except ValueError:
        raise
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except Exception as error:  # such as a kernel that does not compile for this GPU
        return {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}


def has_disagreement(rows: Rows) -> bool:
    """Checks whether an implementation's results differ from the reference."""
    return any(row.get("error") == DISAGREES for row in rows.values())


def _expected(problem: Problem, names: tuple[str, ...]) -> list[torch.Tensor]:
    """Computes output and gradients in float64."""
    operands = {name: operand.double() for name, operand in problem.operands.items()}
    return _passes(Implementation(problem.exact, names), operands, problem.out_grad.double())[1]()


def _passes(
    implementation: Implementation, operands: dict[str, torch.Tensor], out_grad: torch.Tensor
) -> tuple[Callable[[], torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """Returns a forward pass without gradients, and a forward and backward pass that returns output and gradients."""
    inputs = [operands[name].detach().requires_grad_() for name in implementation.operands]

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return implementation.compute(*inputs)

    def training() -> list[torch.Tensor]:
        out = implementation.compute(*inputs)
        return [out.detach(), *torch.autograd.grad(out, inputs, out_grad)]

    return forward, training


def _copy(sources: list[torch.Tensor]) -> Callable[[], None]:
    """Returns a function that copies tensors into memory that is allocated already."""
    sources = [source.clone() for source in sources]
    targets = [torch.zeros_like(source) for source in sources]

    def copy() -> None:
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)

    return copy
