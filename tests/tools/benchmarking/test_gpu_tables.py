"""Markdown tables of a report, complete or cut off, and their places in documents."""

from __future__ import annotations

from typing import Any

import pytest

from attnzoo.tools.benchmarking.gpu_tables import blocks, fill_markers


def row(forward: float, train: float, ratio: float) -> dict[str, float]:
    ratios = {"forward_ratio": ratio, "train_ratio": 2 * ratio}
    return {"forward_ms": forward, "train_ms": train, **ratios, "forward_bytes": 2e6, "train_bytes": 5e6}


@pytest.fixture
def report() -> dict[str, Any]:
    libraries = {"python": "3.12.1", "torch": "2.14.1", "triton": "3.8.0", "timm": "1.0.31"}
    environment = {
        "cpu": "a CPU",
        "gpu": "NVIDIA H200",
        "compute_capability": "9.0",
        "driver": "590.1",
        "libraries": libraries,
        "commit": "0123456789abcdef",
        "modified": True,
    }
    maps = [
        {"size": 7, "heads": 16, "implementations": {"attnzoo triton": row(0.01234, 0.5, 1.0)}},
        {
            "size": "56x48",
            "heads": 2,
            "implementations": {
                "attnzoo triton": row(0.1, 2.0, 1.0),
                "FlexAttention": {"error": "out of memory"},
                "plain copy": {"forward_ms": 0.05, "forward_ratio": 0.5},
            },
        },
    ]
    operation = {"operation": "neighborhood", "batch_size": 64, "dim": 32, "dtype": "bfloat16", "maps": maps}
    inference = {
        "attnzoo": {"params": 28.0, "latency_ms": 1234.5, "throughput": 51.8, "peak_bytes": 3e9},
        "timm": {"error": "out of memory"},
    }
    model = {"model": "davit_tiny", "img_size": [224, 224], "batch_size": 64, "dtype": "bfloat16"}
    tests = {"collected": 230, "passed": 100, "failed": 1, "skipped": 2, "failures": []}
    return {
        "parts": {
            "environment": {"status": "passed", "results": environment},
            "tests": {"status": "timed out", "results": tests},
            "neighborhood": {"status": "passed", "results": operation},
            "davit_tiny": {"status": "passed", "results": {**model, "inference": inference}},
            "halo": {"status": "skipped", "results": {}},
        }
    }


def test_environment_and_tests(report: dict[str, Any]):
    found = blocks(report)
    assert list(found) == ["environment", "tests", "neighborhood", "models"]
    assert found["environment"] == (
        "`make gpu-check`: NVIDIA H200 (compute capability 9.0, driver 590.1), torch 2.14.1, triton 3.8.0, "
        "timm 1.0.31, commit 0123456789ab with changes."
    )
    assert found["tests"] == "Tests: 100 passed, 1 failed, 2 skipped of 230; timed out, so incomplete."
    report["parts"]["tests"]["results"] = {"skipped_because": "pytest is not installed"}
    assert blocks(report)["tests"] == "Tests: not run, because pytest is not installed."


def test_an_operations_tables(report: dict[str, Any]):
    lines = blocks(report)["neighborhood"].splitlines()
    assert lines[0] == "Milliseconds, forward / forward and backward (batch size 64, dim 32, dtype bfloat16):"
    assert lines[2] == "|  | 56x48, 2 heads | 7x7, 16 heads |"
    assert lines[4:7] == [
        "| `attnzoo triton` | 0.100 / 2.00 | 0.0123 / 0.500 |",
        "| `FlexAttention` | out of memory |  |",
        "| `plain copy` | 0.0500 / – |  |",  # noqa: RUF001
    ]
    assert "| `attnzoo triton` | 1.00x / 2.00x | 1.00x / 2.00x |" in lines
    assert "| `plain copy` | 0.50x / – |  |" in lines  # noqa: RUF001
    assert lines[-1] == "| `attnzoo triton` | 2 / 5 | 2 / 5 |"


def test_parts_of_one_operation_share_a_block(report: dict[str, Any]):
    report["parts"]["neighborhood_compiled"] = {**report["parts"]["neighborhood"], "status": "timed out"}
    found = blocks(report)
    assert "neighborhood_compiled" not in found
    assert found["neighborhood"].count("Milliseconds") == 2
    assert "; timed out, so incomplete:" in found["neighborhood"]


def test_models(report: dict[str, Any]):
    lines = blocks(report)["models"].splitlines()
    assert lines[2:] == [
        "| `davit_tiny`, 224x224, batch 64, bfloat16 | inference | attnzoo | 1234 | 52 |  | 3000 |",
        "| `davit_tiny`, 224x224, batch 64, bfloat16 | inference | timm | out of memory |  |  |  |",
    ]


def test_markers_are_filled_and_stay():
    document = (
        "# Title\n<!-- gpu-check:halo -->\nold\n\nlines\n<!-- /gpu-check:halo -->\nend\n"
        "<!-- gpu-check:tests -->\n<!-- /gpu-check:tests -->\n"
    )
    new, names = fill_markers(document, {"halo": "new \\1", "tests": "t"})
    assert names == ["halo", "tests"]
    assert new == (
        "# Title\n<!-- gpu-check:halo -->\nnew \\1\n<!-- /gpu-check:halo -->\nend\n"
        "<!-- gpu-check:tests -->\nt\n<!-- /gpu-check:tests -->\n"
    )
    assert fill_markers(new, {"halo": "new \\1", "tests": "t"})[0] == new


def test_markers_that_cannot_be_filled():
    with pytest.raises(ValueError, match="There is no pair of markers"):
        fill_markers("<!-- gpu-check:halo -->\n", {"halo": "x"})
    with pytest.raises(ValueError, match=r"Unknown block 'hallo'\. Did you mean 'halo'"):
        fill_markers("<!-- gpu-check:hallo -->\n<!-- /gpu-check:hallo -->\n", {"halo": "x"})
