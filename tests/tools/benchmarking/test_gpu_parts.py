"""Tests of the parts of the GPU check on a CPU, and of their settings for a GPU."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from attnzoo.tools.benchmarking import gpu_parts
from attnzoo.tools.benchmarking.operations import OPERATIONS, Implementation


def test_parts_for_a_gpu_have_every_operation_and_model_smallest_first():
    names = list(gpu_parts.parts("cuda"))
    assert names[:2] == ["environment", "tests"]
    assert set(OPERATIONS) <= set(names)
    assert names.index("window") < names.index("neighborhood") < names.index("van_b0") < names.index("davit_tiny")
    assert names.index("davit_tiny") < names.index("neighborhood_compiled") < names.index("davit_tiny_compiled")
    assert not [name for name in gpu_parts.parts("cpu") if "compiled" in name]
    pickle.dumps(gpu_parts.parts("cuda"))


def test_every_part_gets_enough_time_within_six_minutes():
    weights = {name: part.weight for name, part in gpu_parts.parts("cuda").items()}
    total = sum(weights.values())
    assert 360 * weights["tests"] / total > 60
    assert all(360 * weight / total > 10 for weight in weights.values())


def test_environment():
    results = gpu_parts.environment("cpu", lambda results: None)
    assert results["libraries"]["torch"]
    assert results["cuda_available"] is torch.cuda.is_available()
    assert "gpu" not in results


def test_environment_of_a_gpu(monkeypatch: pytest.MonkeyPatch):
    class Properties:
        name, major, minor, total_memory, multi_processor_count = "NVIDIA H200", 9, 0, 150 << 30, 132

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    results = gpu_parts.environment("cuda", lambda results: None)
    assert (results["gpu"], results["compute_capability"]) == ("NVIDIA H200", "9.0")
    assert "driver" in results


@pytest.mark.parametrize("name", OPERATIONS)
def test_benchmark_of_an_operation_on_a_cpu(name: str):
    updates: list[dict[str, Any]] = []
    results = gpu_parts.benchmark_operation(name, False, "cpu", lambda results: updates.append(copy.deepcopy(results)))
    assert updates[-1] == results
    assert results["failed"] is False
    (entry,) = results["maps"]
    assert entry["size"] == min(OPERATIONS[name].sizes)[0]
    assert entry["implementations"]["plain copy"]["forward_ms"] > 0
    assert len(entry["implementations"]) >= 3
    assert len(updates) == len(entry["implementations"]) + 1


def test_only_errors_of_attnzoo_implementations_are_failures(monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
        raise RuntimeError("broken")

    monkeypatch.setattr("attnzoo.tools.benchmarking.operations.PartitionAttention", lambda window_size: broken)
    results = gpu_parts.benchmark_operation("window", False, "cpu", lambda results: None)
    assert results["maps"][0]["implementations"]["partition + SDPA"] == {"error": "RuntimeError: broken"}
    assert results["failed"] is False
    assert gpu_parts._ours_failed({"attnzoo triton": {"error": "broken"}})


def test_selected_implementations():
    problem = OPERATIONS["neighborhood"].build((7, 7), 1, 4, torch.float32, torch.device("cpu"), kernel_size=3)
    compute = problem.implementations["unfold + einsum"].compute
    ours = {"attnzoo triton": None, "attnzoo triton, no bias": None, "attnzoo torch": None}
    names = {name: Implementation(compute) for name in (*ours, "unfold + einsum")}
    problem.implementations.clear()
    problem.implementations.update(names, FlexAttention=Implementation(compute, compiles=True))
    assert gpu_parts._selected(problem, False) == ["attnzoo triton", "attnzoo triton, no bias", "unfold + einsum"]
    assert gpu_parts._selected(problem, True) == ["attnzoo triton", "FlexAttention"]


def test_benchmark_of_a_model_on_a_cpu():
    updates: list[list[str]] = []
    results = gpu_parts.benchmark_model(
        "van_b0", ["plain"], False, "cpu", lambda results: updates.append(list(results))
    )
    assert results["failed"] is False
    for mode in ("inference", "training"):
        assert results[mode]["plain"]["ratio"] > 0
        assert mode in updates[-1]
