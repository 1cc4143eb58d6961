"""Timing of functions in alternation, and the peak memory of a call."""

from __future__ import annotations

import functools
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler writes to stderr whenever it starts

import torch
from torch.profiler import ProfilerActivity, profile

_MAX_CALLS = 10
"""Calls per turn on a GPU."""
_TURN_SECONDS = 0.05
"""Slow functions get fewer calls per turn, as many as fit in this time, but at least one."""
_FLUSH_BYTES = 256 << 20
"""Larger than the L2 cache of any GPU."""
_MAX_LAUNCH_SECONDS = 2e-3
_CLOCK_HZ = 2e9
"""About the clock rate of a GPU, upper end."""


class Elapsed(NamedTuple):
    """Time of one call in milliseconds.

    Attributes:
        wall: Wall-clock time. On a GPU it includes launching.
        busy: CPU time, summed over threads. On a GPU, the time between CUDA events around the call, with a cold L2
            cache and without waiting for launches.
    """

    wall: float
    busy: float


def time_in_turns(
    functions: dict[str, Callable[[], Any]],
    device: torch.device,
    repeats: int,
    on_turn: Callable[[], object] = lambda: None,
) -> dict[str, list[Elapsed]]:
    """Times functions in alternation, so that other load on the machine affects all of them alike.

    Args:
        functions: Functions by name.
        device: Device that they compute on.
        repeats: Number of timed turns, after one turn to warm up.
        on_turn: Called after every turn, including the first.

    Returns:
        The times of each function, in order.
    """
    times: dict[str, list[Elapsed]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            elapsed = _time_on_cpu(function) if device.type == "cpu" else _time_on_gpu(function)
            if turn > 0:
                times[name].append(elapsed)
        on_turn()
    return times


def median_times(functions: dict[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, float]:
    """Returns each function's median time over alternating turns, in milliseconds of CPU time or GPU time."""
    times = time_in_turns(functions, device, repeats)
    return {name: statistics.median(elapsed.busy for elapsed in values) for name, values in times.items()}


def peak_memory(function: Callable[[], Any], device: torch.device) -> int:
    """Returns the peak number of bytes held by tensors that a call allocates, its result included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
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
    current = peak = 0
    for _, change in sorted(changes, key=lambda time_and_change: time_and_change[0]):
        current += change
        peak = max(peak, current)
    return peak


def device_name(device: torch.device) -> str:
    """Returns the vendor's name of a GPU or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _time_on_cpu(function: Callable[[], Any]) -> Elapsed:
    wall, busy = time.perf_counter(), time.process_time()
    result = function()
    busy, wall = time.process_time() - busy, time.perf_counter() - wall
    del result
    return Elapsed(wall * 1e3, busy * 1e3)


def _time_on_gpu(function: Callable[[], Any]) -> Elapsed:
    function()
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    launch_seconds = time.perf_counter() - start
    torch.cuda.synchronize()
    calls = max(1, min(_MAX_CALLS, int(_TURN_SECONDS / (time.perf_counter() - start))))

    start = time.perf_counter()
    for _ in range(calls):
        function()
    torch.cuda.synchronize()
    wall = (time.perf_counter() - start) / calls

    flush = _flush_buffer()
    # While the GPU sleeps, the host gets ahead with launching, so the events enclose computation alone.
    cycles = int(min(1.5 * launch_seconds, _MAX_LAUNCH_SECONDS) * _CLOCK_HZ)
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
    for before, after in events:
        flush.zero_()
        torch.cuda._sleep(cycles)
        before.record()
        function()
        after.record()
    torch.cuda.synchronize()
    return Elapsed(wall * 1e3, statistics.median(before.elapsed_time(after) for before, after in events))


@functools.cache
def _flush_buffer() -> torch.Tensor:
    """Allocates a buffer; filling it evicts everything else from the L2 cache."""
    return torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device="cuda")
