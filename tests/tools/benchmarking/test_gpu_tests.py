"""Tests of running pytest inside a process: counts, failures, and missing packages."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnzoo.tools.benchmarking import gpu_tests

RUN = """
import json, pathlib, sys
from attnzoo.tools.benchmarking.gpu_tests import run_tests
updates = []
results = run_tests(pathlib.Path(sys.argv[1]), lambda results: updates.append(json.loads(json.dumps(results))))
print("\\n" + json.dumps([results, updates]))
"""


def run(folder: Path, prelude: str = "") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs the tests of a folder in another process."""
    done = subprocess.run(
        [sys.executable, "-c", prelude + RUN, str(folder)], capture_output=True, text=True, cwd=folder, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_outcomes_are_reported_test_by_test(tmp_path: Path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert 1 == 2, 'a wrong number'\n"
        "@pytest.mark.skip(reason='no reason')\n"
        "def test_skipped(): pass\n"
    )
    (tmp_path / "test_broken.py").write_text("import no_such_module\n")
    results, updates = run(tmp_path)
    assert {key: results[key] for key in ("collected", "passed", "failed", "skipped")} == {
        "collected": 3,
        "passed": 1,
        "failed": 2,
        "skipped": 1,
    }
    messages = {failure["test"]: failure["message"] for failure in results["failures"]}
    assert "a wrong number" in messages["test_some.py::test_fails"]
    assert "no_such_module" in messages["test_broken.py"]
    assert [update["passed"] for update in updates][-3:] == [1, 1, 1]
    assert updates[-1] == results


def test_without_hypothesis_only_its_tests_are_skipped(tmp_path: Path):
    (tmp_path / "test_some.py").write_text(
        "from hypothesis import given, settings\n"
        "from hypothesis import strategies as st\n"
        "@st.composite\n"
        "def numbers(draw): return draw(st.integers())\n"
        "@settings(max_examples=5)\n"
        "@given(number=numbers(), other=st.integers(0, 5))\n"
        "def test_property(number, other): raise AssertionError\n"
        "def test_plain(): pass\n"
    )
    hide = (
        "import importlib.util, os\n"
        "os.environ['PYTEST_ADDOPTS'] = '-p no:hypothesispytest'\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'hypothesis' else find(name)\n"
    )
    results, _ = run(tmp_path, hide)
    assert (results["passed"], results["skipped"], results["failed"]) == (1, 1, 0), results


def test_empty_folder_is_a_failure(tmp_path: Path):
    results, _ = run(tmp_path)
    assert results["failed"] == 1
    assert "NO_TESTS_COLLECTED" in results["failures"][0]["message"]


def test_missing_pytest_or_tests_is_the_reason_for_skipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reason = gpu_tests.run_tests(tmp_path / "nowhere", lambda results: None)["skipped_because"]
    assert "not a checkout" in reason
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert gpu_tests.run_tests(tmp_path, lambda results: None) == {"skipped_because": "pytest is not installed"}
