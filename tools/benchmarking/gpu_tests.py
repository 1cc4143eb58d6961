"""Runs pytest inside this process and reports results test by test."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

_MAX_MESSAGE = 600  # characters of a failure that are kept


class ResultRecorder:
    """A pytest plugin that counts outcomes and keeps the messages of failures.

    Args:
        on_update: Called with the results so far after every test.
    """

    def __init__(self, on_update: Callable[[dict[str, Any]], None]) -> None:
        self.results: dict[str, Any] = {"collected": 0, "passed": 0, "failed": 0, "skipped": 0, "failures": []}
        self._on_update = on_update

    def pytest_collection_finish(self, session: Any) -> None:
        """Records the number of tests."""
        self.results["collected"] = len(session.items)
        self._on_update(self.results)

    def pytest_collectreport(self, report: Any) -> None:
        """Records a file that cannot be collected."""
        if report.failed:
            self._add_failure(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Records the outcome of a test's setup, call or teardown."""
        if report.failed:
            self._add_failure(report)
        elif report.skipped or report.when == "call":
            self.results[report.outcome] += 1
        else:
            return
        self._on_update(self.results)

    def _add_failure(self, report: Any) -> None:
        self.results["failed"] += 1
        self.results["failures"].append({"test": report.nodeid, "message": report.longreprtext[-_MAX_MESSAGE:]})


def run_tests(folder: Path, on_update: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Runs the tests of a folder.

    Args:
        folder: Folder with tests, inside of a checkout.
        on_update: Called with the results so far after every test.

    Returns:
        `collected`, `passed`, `failed`, `skipped` and `failures`; or `skipped_because`, if nothing could be run.
    """
    if importlib.util.find_spec("pytest") is None:
        return {"skipped_because": "pytest is not installed"}
    if not folder.is_dir():
        return {"skipped_because": f"there is no folder {folder}: this is not a checkout"}
    import pytest

    if importlib.util.find_spec("hypothesis") is None:
        sys.modules["hypothesis"] = _skipping_hypothesis()
    recorder = ResultRecorder(on_update)
    options = ["-q", "--tb=short", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    code = pytest.main([*options, str(folder)], plugins=[recorder])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not recorder.results["failures"]:
        recorder.results["failed"] += 1
        recorder.results["failures"].append({"test": str(folder), "message": f"pytest ended with {code!r}"})
    return recorder.results


def _skipping_hypothesis() -> ModuleType:
    """Builds a substitute for hypothesis that skips the tests which need it, so that the others of a file run."""
    import pytest

    module: Any = ModuleType("hypothesis")
    module.given = lambda *args, **kwargs: pytest.mark.skip(reason="hypothesis is not installed")
    module.settings = lambda *args, **kwargs: lambda test: test
    module.strategies = mock.MagicMock()
    return module
