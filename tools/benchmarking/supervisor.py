"""Runs the parts of a check one after the other, each in a process of its own with its own time limit.

The report is written after every measurement, so that it holds everything that was measured even if the check is cut
off. A part gets the share of the remaining time that its weight has among the remaining parts; time that it does not
use goes to the parts after it.

The processes are forked from a server that has imported torch but has not used CUDA: an import costs seconds, and a
process that has used CUDA cannot be forked.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from attnzoo.zoo.files import write_json

MIN_SECONDS = 2.0
"""Minimum time limit of a part; parts that would get less are skipped."""
_POLL_SECONDS = 0.2
_LOG_LINES = 30
_RESULTS, _LOG = "results.json", "log.txt"

Results = dict[str, Any]
OnUpdate = Callable[[Results], None]


@dataclass(frozen=True)
class Part:
    """A part of a check.

    Attributes:
        run: Runs the part: `run(device_type, on_update)` calls `on_update` with the results so far after every
            measurement and returns the final results. Its results may have `failed`, a bool, or `skipped_because`, a
            reason. It must be picklable.
        weight: Share of the time, relative to the other parts.
    """

    run: Callable[[str, OnUpdate], Results]
    weight: float = 1.0


def run_parts(
    parts: Mapping[str, Part],
    device_type: str,
    out: Path,
    budget: float,
    preload: tuple[str, ...] = (),
    on_part: Callable[[str, dict[str, Any]], None] = lambda name, entry: None,
) -> dict[str, Any]:
    """Runs parts and writes their results.

    Args:
        parts: Parts by name, in the order in which they run.
        device_type: "cuda" or "cpu".
        out: JSON file of the report.
        budget: Seconds for all parts.
        preload: Modules that the processes share, imported once.
        on_part: Called after every part with its name and its entry. May raise an exception to stop.

    Returns:
        The report: `status` ("complete" or "interrupted"), `passed`, and in `parts` an entry per part with `status`
        ("passed", "failed", "timed out", "crashed" or "skipped"), `limit_s`, `seconds`, `results`, and unless the part
        passed `log`, its last lines of output.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    deadline = time.monotonic() + budget
    report: dict[str, Any] = {
        "device": device_type,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "budget_s": budget,
        "status": "running",
        "passed": None,
        "parts": {},
    }
    names = list(parts)
    try:
        _start_server(context, budget)
        for index, name in enumerate(names):
            remaining = deadline - time.monotonic()
            limit = remaining * parts[name].weight / sum(parts[other].weight for other in names[index:])
            entry: dict[str, Any] = {"status": "running", "limit_s": round(limit, 1), "seconds": 0.0, "results": {}}
            report["parts"][name] = entry
            if limit < MIN_SECONDS:
                entry["status"] = "skipped"
            else:
                start = functools.partial(_start, context, parts[name], device_type)
                _run_part(start, limit, entry, lambda: write_json(out, report))
            write_json(out, report)
            on_part(name, entry)
        report["status"] = "complete"
    except BaseException:
        report["status"] = "interrupted"
        raise
    finally:
        statuses = [entry["status"] for entry in report["parts"].values()]
        report["passed"] = report["status"] == "complete" and all(
            status in ("passed", "skipped") for status in statuses
        )
        report["seconds"] = round(budget - (deadline - time.monotonic()), 1)
        write_json(out, report)
    return report


def _start_server(context: ForkServerContext, limit: float) -> None:
    """Starts the server and waits until it has imported its modules, so that no part's time is spent on that."""
    process = context.Process(target=os.getpid)
    process.start()
    process.join(limit)


def _start(context: ForkServerContext, part: Part, device_type: str, folder: Path) -> ForkServerProcess:
    """Starts the process of a part."""
    process = context.Process(target=_work, args=(part.run, device_type, folder / _RESULTS, folder / _LOG))
    process.start()
    return process


def _work(run: Callable[[str, OnUpdate], Results], device_type: str, results_file: Path, log_file: Path) -> None:
    """Runs a part inside its process, as the leader of a process group."""
    os.setsid()
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(2)

    def on_update(results: Results) -> None:
        write_json(results_file, results)

    on_update(run(device_type, on_update))


def _run_part(
    start: Callable[[Path], ForkServerProcess], limit: float, entry: dict[str, Any], save: Callable[[], Any]
) -> None:
    """Runs a part and fills its entry as results arrive; kills its processes at the time limit."""
    start_time = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attnzoo_part_") as name:
        folder = Path(name)
        stamp = 0
        process = start(folder)
        try:
            while process.is_alive() and time.monotonic() - start_time < limit:
                stamp = _update(entry, folder / _RESULTS, stamp, save)
                process.join(_POLL_SECONDS)
        finally:
            timed_out = process.is_alive()
            _kill_group(process)
            _update(entry, folder / _RESULTS, stamp, lambda: None)
            entry["seconds"] = round(time.monotonic() - start_time, 1)
            entry["status"] = _status(timed_out, process.exitcode, entry["results"])
            if entry["status"] != "passed" and (folder / _LOG).exists():
                lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
                entry["log"] = lines[-_LOG_LINES:]


def _update(entry: dict[str, Any], results_file: Path, stamp: int, save: Callable[[], Any]) -> int:
    """Reads new results and saves the report; returns the time stamp of the results that were read."""
    try:
        current = results_file.stat().st_mtime_ns
    except OSError:
        return stamp
    if current != stamp:
        entry["results"] = json.loads(results_file.read_text(encoding="utf-8"))
        save()
    return current


def _kill_group(process: ForkServerProcess) -> None:
    """Kills a part's process and those that it started, such as compilers."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:  # the process has ended, or does not lead its group yet
        process.kill()
    process.join()


def _status(timed_out: bool, exit_code: int | None, results: Results) -> str:
    if timed_out:
        return "timed out"
    if exit_code != 0:
        return "crashed"
    if "skipped_because" in results:
        return "skipped"
    return "failed" if results.get("failed") else "passed"
