"""Measures complete models: agreement of logits, latency, throughput and peak memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnzoo import create_model
from attnzoo.tools.benchmarking.model_baselines import BASELINES, randomize_statistics
from attnzoo.tools.benchmarking.precision import TOLERANCES
from attnzoo.zoo.analysis.summary import count_parameters
from attnzoo.zoo.analysis.timing import Elapsed, peak_memory, time_in_turns

OURS = "attnzoo"

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ModelSettings:
    """How models are measured.

    Attributes:
        batch_size: Images per batch.
        dtype: Data type of weights and images.
        device: Device that computes.
        train: Measure a training step rather than inference.
        compile_modes: Modes to measure: False for eager mode, True for torch.compile.
        channels_last: Memory format of weights and images.
        repeats: Number of timed turns per model.
    """

    batch_size: int
    dtype: torch.dtype
    device: torch.device
    train: bool = False
    compile_modes: tuple[bool, ...] = (False,)
    channels_last: bool = False
    repeats: int = 10


def measure_model(
    name: str,
    size: Sequence[int],
    settings: ModelSettings,
    baselines: Sequence[str] = (),
    on_turn: Callable[[], object] = lambda: None,
    on_update: Callable[[Rows], None] = lambda rows: None,
) -> Rows:
    """Measures a model and its baselines in alternation, after checking that their logits agree.

    Args:
        name: Name of the model.
        size: Height and width of the images in pixels.
        settings: How to measure.
        baselines: Names in `BASELINES`.
        on_turn: Called after every turn.
        on_update: Called with the rows so far whenever something has been measured.

    Returns:
        A row for "attnzoo" and for each baseline, ", compiled" appended to the name where both modes are measured:
        `params` (millions), `latency_ms` (wall-clock time per batch), `throughput` (images per second), `busy_ms`,
        `peak_bytes` beyond weights and images, and for all but the first `ratio` (time divided by that of the first);
        or `error`.
    """
    rows: Rows = {}
    try:
        models, images = _build_models(name, size, settings, baselines)
    except (ValueError, RuntimeError) as error:  # includes OutOfMemoryError
        rows[OURS] = {"error": _first_line(error)}
        on_update(rows)
        return rows
    steps: dict[str, Callable[[], Any]] = {}
    for compiled in settings.compile_modes:
        for key, model in models.items():
            label = f"{key}, compiled" if compiled and len(settings.compile_modes) > 1 else key
            step = _step(model, images, settings.train, compiled)
            try:
                step()  # compiles and warms up
                rows[label] = {
                    "params": count_parameters(model)[0] / 1e6,
                    "peak_bytes": peak_memory(step, settings.device),
                }
            except Exception as error:  # the others can still be measured
                rows[label] = {"error": _first_line(error)}
            else:
                steps[label] = step
            on_update(rows)
    times = time_in_turns(steps, settings.device, settings.repeats, on_turn)
    reference = next(iter(rows))
    for label, elapsed in times.items():
        rows[label] |= _summary(elapsed, settings)
        if label != reference and reference in times:
            rows[label]["ratio"] = _ratio(elapsed, times[reference], settings)
    on_update(rows)
    return rows


def _build_models(
    name: str, size: Sequence[int], settings: ModelSettings, baselines: Sequence[str]
) -> tuple[dict[str, nn.Module], torch.Tensor]:
    """Builds the model and its baselines with the same weights, and a batch of images.

    Raises:
        ValueError: If a baseline does not exist for the model, or the logits differ.
    """
    torch.manual_seed(0)
    images = torch.randn(settings.batch_size, 3, *size, dtype=settings.dtype, device=settings.device)
    models: dict[str, nn.Module] = {OURS: create_model(name).eval()}
    randomize_statistics(models[OURS])
    for baseline in baselines:
        models[baseline] = BASELINES[baseline](name, models[OURS])
    if settings.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    for model in models.values():
        model.to(settings.device, settings.dtype)
        if settings.channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        logits = {key: model(images) for key, model in models.items()}
    for key, values in logits.items():
        error = ((values - logits[OURS]).norm() / logits[OURS].norm()).item()
        if not error <= TOLERANCES[settings.dtype]:
            raise ValueError(f"The logits of {key} differ from attnzoo's by a relative error of {error:.2g}.")
    return models, images


def _step(model: nn.Module, images: torch.Tensor, train: bool, compiled: bool) -> Callable[[], Any]:
    """Returns the function to time: inference, or a training step with SGD."""
    forward: Any = torch.compile(model) if compiled else model
    if not train:
        return torch.inference_mode()(lambda: forward(images))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    labels = torch.arange(len(images), device=images.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(forward(images).float(), labels).backward()
        optimizer.step()

    return step


def _summary(times: list[Elapsed], settings: ModelSettings) -> dict[str, float]:
    latency = statistics.median(elapsed.wall for elapsed in times)
    return {
        "latency_ms": latency,
        "throughput": settings.batch_size * 1e3 / latency,
        "busy_ms": statistics.median(elapsed.busy for elapsed in times),
    }


def _ratio(times: list[Elapsed], reference: list[Elapsed], settings: ModelSettings) -> float:
    """Compares CPU time on a CPU, which other load affects less, and wall-clock time on a GPU, which has launches."""
    field = "busy" if settings.device.type == "cpu" else "wall"
    return statistics.median(
        getattr(one, field) / getattr(other, field) for one, other in zip(times, reference, strict=True)
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
