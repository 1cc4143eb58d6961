"""Tests of running parts in separate processes, and of the report if they fail, crash or hang."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from attnzoo.tools.benchmarking import supervisor
from attnzoo.tools.benchmarking.supervisor import Part, run_parts
from support import check_parts


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_results_and_statuses(tmp_path: Path):
    out = tmp_path / "report.json"
    seen: list[tuple[str, str]] = []
    parts = {name: Part(getattr(check_parts, name)) for name in ("measures", "fails", "skips", "raises", "dies")}
    report = run_parts(parts, "cpu", out, 120, on_part=lambda name, entry: seen.append((name, entry["status"])))
    assert seen == [
        ("measures", "passed"),
        ("fails", "failed"),
        ("skips", "skipped"),
        ("raises", "crashed"),
        ("dies", "crashed"),
    ]
    assert json.loads(out.read_text()) == report
    assert report["status"] == "complete"
    assert report["passed"] is False
    results = {name: entry["results"] for name, entry in report["parts"].items()}
    assert results["measures"]["first"] == "cpu"
    assert results["measures"]["second"] != os.getpid()
    assert results["raises"] == {"first": 1}
    logs = {name: "\n".join(entry.get("log", [])) for name, entry in report["parts"].items()}
    assert logs["measures"] == ""
    assert logs["fails"] == "what went wrong"
    assert "RuntimeError: a bug" in logs["raises"]
    assert "Segmentation fault" in logs["dies"]


def test_hanging_part_is_killed_with_its_child_processes(tmp_path: Path):
    parts = {"hangs": Part(check_parts.hangs), "measures": Part(check_parts.measures, 4.0)}
    start = time.monotonic()
    report = run_parts(parts, "cpu", tmp_path / "report.json", 15)
    assert time.monotonic() - start < 15
    entry = report["parts"]["hangs"]
    assert entry["status"] == "timed out"
    assert not is_running(entry["results"]["child"])
    assert report["parts"]["measures"]["status"] == "passed"
    # The next part gets the remaining time.
    assert report["parts"]["measures"]["limit_s"] > entry["limit_s"]


def test_all_passed(tmp_path: Path):
    parts = {"measures": Part(check_parts.measures), "skips": Part(check_parts.skips)}
    assert run_parts(parts, "cpu", tmp_path / "report.json", 60)["passed"] is True


def test_parts_with_too_little_time_are_skipped(tmp_path: Path):
    report = run_parts({"measures": Part(check_parts.measures)}, "cpu", tmp_path / "report.json", 0.5)
    assert report["parts"]["measures"]["status"] == "skipped"
    assert report["parts"]["measures"]["results"] == {}


def test_interrupted_check_keeps_its_report(tmp_path: Path):
    def stop(name: str, entry: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "report.json"
    parts = {"measures": Part(check_parts.measures), "fails": Part(check_parts.fails)}
    with pytest.raises(KeyboardInterrupt):
        run_parts(parts, "cpu", out, 60, on_part=stop)
    report = json.loads(out.read_text())
    assert report["status"] == "interrupted"
    assert report["passed"] is False
    assert list(report["parts"]) == ["measures"]
    assert report["parts"]["measures"]["results"]["first"] == "cpu"


def test_report_on_disk_is_updated_while_a_part_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved: list[Any] = []
    write_json = supervisor.write_json

    def spy(path: Path, content: Any) -> Any:
        if "parts" in content:
            saved.append(json.loads(json.dumps(content["parts"])))
        return write_json(path, content)

    monkeypatch.setattr(supervisor, "write_json", spy)
    run_parts({"hangs": Part(check_parts.hangs)}, "cpu", tmp_path / "report.json", 4)
    running = [parts["hangs"] for parts in saved if parts["hangs"]["status"] == "running"]
    assert "child" in running[-1]["results"]
