"""Timing in alternation, on a CPU and on a simulated GPU, and peak memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from attnzoo.zoo.analysis import timing
from attnzoo.zoo.analysis.timing import Elapsed, device_name, median_times, peak_memory, time_in_turns

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class SimulatedGPU:
    """Stands for torch.cuda: kernels advance a clock, and every action is noted."""

    def __init__(self) -> None:
        self.clock = 0.0  # milliseconds
        self.actions: list[str] = []
        self.allocated, self.peak = 1000, 5000

    def run(self, milliseconds: float) -> None:
        self.clock += milliseconds
        self.actions.append("run")

    def zero_(self) -> None:
        self.run(0.06)
        self.actions[-1] = "flush"

    def sleep(self, cycles: int) -> None:
        assert 0 <= cycles <= 4_000_000
        self.run(cycles / 2e6)
        self.actions[-1] = "sleep"

    def event(self, enable_timing: bool) -> Any:
        gpu = self

        class Event:
            def record(self) -> None:
                self.time = gpu.clock
                gpu.actions.append("record")

            def elapsed_time(self, end: Any) -> float:
                return end.time - self.time

        assert enable_timing
        return Event()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimulatedGPU:
    simulated = SimulatedGPU()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: simulated.actions.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "Event", simulated.event)
    monkeypatch.setattr(torch.cuda, "_sleep", simulated.sleep)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: simulated.allocated)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: simulated.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: setattr(simulated, "peak", simulated.allocated))
    monkeypatch.setattr(timing, "_flush_buffer", lambda: simulated)
    return simulated


def test_functions_alternate_after_a_warm_up_turn():
    order: list[str] = []
    turns: list[int] = []
    functions = {name: lambda name=name: order.append(name) for name in ("first", "second")}
    times = time_in_turns(functions, CPU, 3, lambda: turns.append(len(order)))
    assert order == ["first", "second"] * 4
    assert turns == [2, 4, 6, 8]
    assert [len(values) for values in times.values()] == [3, 3]


def test_cpu_time_excludes_waiting():
    def wait() -> None:
        time.sleep(0.05)

    elapsed = time_in_turns({"wait": wait}, CPU, 1)["wait"][0]
    assert elapsed.wall >= 50
    assert elapsed.busy < 40


def test_medians_are_of_busy_time(monkeypatch: pytest.MonkeyPatch):
    values = iter([9.0, 1.0, 5.0, 2.0])
    monkeypatch.setattr(timing, "_time_on_cpu", lambda function: Elapsed(100.0, next(values)))
    assert median_times({"one": lambda: None}, CPU, 3) == {"one": 2.0}


def test_events_enclose_the_function_alone(gpu: SimulatedGPU):
    times = time_in_turns({"kernel": lambda: gpu.run(0.25)}, GPU, 2)
    assert [elapsed.busy for elapsed in times["kernel"]] == pytest.approx([0.25, 0.25])
    assert gpu.actions[-6:] == ["flush", "sleep", "record", "run", "record", "synchronize"]
    measured = len(gpu.actions) // 3
    turn = gpu.actions[-measured:]
    assert turn[:4] == ["run", "synchronize", "run", "synchronize"]
    assert turn.count("flush") == turn.count("sleep") == 10
    assert turn.count("run") == 2 + 2 * 10


def test_slow_functions_run_fewer_times(gpu: SimulatedGPU):
    def slow() -> None:
        time.sleep(0.03)
        gpu.run(30)

    (elapsed,) = time_in_turns({"slow": slow}, GPU, 1)["slow"]
    assert gpu.actions.count("flush") == 2  # one call in each of two turns
    assert elapsed.busy == pytest.approx(30)
    assert elapsed.wall >= 30


def test_peak_memory_on_a_gpu_is_beyond_what_was_allocated(gpu: SimulatedGPU):
    def allocate() -> None:
        gpu.peak = gpu.allocated + 640

    assert peak_memory(allocate, GPU) == 640
    assert peak_memory(lambda: None, GPU) == 0


def test_peak_memory_counts_what_lives_together():
    def run():
        first = torch.ones(1000, 250)  # 1 MB
        second = first * 2
        del first
        return second + 1

    assert 2_000_000 <= peak_memory(run, CPU) < 2_100_000


def test_device_name(monkeypatch: pytest.MonkeyPatch):
    assert device_name(CPU)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device.type}")
    assert device_name(GPU) == "name of cuda"
