"""How the benchmarks measure: time by turns, memory by what the allocators report."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler otherwise writes to stderr at every start

import torch
from torch.profiler import ProfilerActivity, profile

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Relative error below which two ways to compute the same thing agree."""


class Elapsed(NamedTuple):
    """How long one call took, in milliseconds.

    Attributes:
        wall: by the clock on the wall; on a GPU by its own events.
        busy: process-CPU time, the sum over threads; on a GPU the same as `wall`.
    """

    wall: float
    busy: float


def take_turns(
    runs: dict[str, Callable[[], Any]],
    device: torch.device,
    repeats: int,
    on_turn: Callable[[], None] = lambda: None,
) -> dict[str, list[Elapsed]]:
    """Times functions by turns, so that what else the machine does falls on all alike.

    Args:
        runs: the functions, by name.
        device: what they compute on.
        repeats: turns that each takes, after one to warm up.
        on_turn: called after each turn, the first included.

    Returns:
        For each function its times, in order.
    """
    times: dict[str, list[Elapsed]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            elapsed = _cpu_time(run) if device.type == "cpu" else _gpu_time(run)
            if turn:  # the first one warms up
                times[name].append(elapsed)
        on_turn()
    return times


def medians(runs: dict[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, float]:
    """Times functions by turns and takes each one's median, in milliseconds: process-CPU time, or GPU time."""
    times = take_turns(runs, device, repeats)
    return {name: statistics.median(elapsed.busy for elapsed in values) for name, values in times.items()}


def peak_memory(run: Callable[[], Any], device: torch.device) -> int:
    """The most bytes that tensors made by a function, and returned by it, hold at a time."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = run()
    del result
    kineto = record.profiler
    assert kineto is not None
    assert kineto.kineto_results is not None
    events: list[Any] = kineto.kineto_results.events()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == "[memory]" and event.device_type().name == "CPU"
    ]
    now = most = 0
    for _, change in sorted(changes, key=lambda one: one[0]):
        now += change
        most = max(most, now)
    return most


def device_name(device: torch.device) -> str:
    """The processor's name, as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _cpu_time(run: Callable[[], Any]) -> Elapsed:
    wall, busy = time.perf_counter(), time.process_time()
    result = run()
    busy, wall = time.process_time() - busy, time.perf_counter() - wall
    del result
    return Elapsed(wall * 1e3, busy * 1e3)


def _gpu_time(run: Callable[[], Any], calls: int = 10) -> Elapsed:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()  # what the previous function left in the caches and on the queue
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    elapsed = start.elapsed_time(end) / calls
    return Elapsed(elapsed, elapsed)
