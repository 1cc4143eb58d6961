"""Tests of measuring implementations. Wrong results and errors are reported and not timed."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from attnzoo.tools.benchmarking.kernels import PLAIN_COPY, has_disagreement, measure_problem
from attnzoo.tools.benchmarking.operations import OPERATIONS, Implementation, Problem

CPU = torch.device("cpu")


@pytest.fixture
def problem() -> Problem:
    return OPERATIONS["window"].build((6, 6), 1, 4, torch.float32, CPU, window_size=3)


def added(problem: Problem, name: str, compute: Any) -> Problem:
    implementations = {**problem.implementations, name: Implementation(compute)}
    return dataclasses.replace(problem, implementations=implementations)


def test_rows_have_times_ratios_and_memory(problem: Problem):
    seen: list[dict[str, Any]] = []
    rows = measure_problem(problem, torch.float32, CPU, 2, on_update=lambda rows: seen.append(copy.deepcopy(rows)))
    assert list(rows) == ["attnzoo torch", "partition + SDPA", PLAIN_COPY]
    for name, row in rows.items():
        for phase in ("forward", "train"):
            assert row[f"{phase}_ratio"] == row[f"{phase}_ms"] / rows["attnzoo torch"][f"{phase}_ms"]
            assert (f"{phase}_bytes" in row) == (name != PLAIN_COPY)
    assert not has_disagreement(rows)
    # An update after each implementation, and after the times of each pass.
    assert [list(one) for one in seen[:2]] == [["attnzoo torch"], ["attnzoo torch", "partition + SDPA"]]
    assert "forward_ms" not in seen[1]["attnzoo torch"]
    assert "forward_ms" in seen[2]["attnzoo torch"]
    assert "train_ms" not in seen[2]["attnzoo torch"]
    assert seen[3] == rows


def test_implementation_with_wrong_results_is_not_timed(problem: Problem):
    ours = problem.implementations["attnzoo torch"].compute
    rows = measure_problem(added(problem, "wrong", lambda *qkv: ours(*qkv) * 1.01), torch.float32, CPU, 1)
    assert rows["wrong"] == {"error": "disagrees"}
    assert has_disagreement(rows)


def test_failing_implementations_do_not_stop_the_others(problem: Problem):
    def no_memory(*qkv: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def broken(*qkv: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image\nmore")

    rows = measure_problem(added(added(problem, "large", no_memory), "broken", broken), torch.float32, CPU, 1)
    assert rows["large"] == {"error": "out of memory"}
    assert rows["broken"] == {"error": "RuntimeError: no kernel image"}
    assert rows["partition + SDPA"]["train_ms"] > 0
    assert not has_disagreement(rows)


def test_no_ratios_if_the_first_implementation_fails(problem: Problem):
    def broken(*qkv: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken")

    implementations = {"attnzoo torch": Implementation(broken), **added(problem, "x", broken).implementations}
    implementations["attnzoo torch"] = Implementation(broken)
    rows = measure_problem(
        dataclasses.replace(problem, implementations=implementations),
        torch.float32,
        CPU,
        1,
        ["attnzoo torch", "partition + SDPA"],
    )
    assert rows["attnzoo torch"] == {"error": "RuntimeError: broken"}
    assert rows["partition + SDPA"]["forward_ms"] > 0
    assert "forward_ratio" not in rows["partition + SDPA"]


def test_wrong_arguments_raise_an_error():
    problem = OPERATIONS["neighborhood"].build((5, 5), 1, 4, torch.float32, CPU, kernel_size=7)
    with pytest.raises(ValueError, match="must not exceed the map"):
        measure_problem(problem, torch.float32, CPU, 1)


def test_only_selects_implementations(problem: Problem):
    rows = measure_problem(problem, torch.float32, CPU, 1, ["partition + SDPA"])
    assert list(rows) == ["partition + SDPA", PLAIN_COPY]
