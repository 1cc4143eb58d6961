"""Random calls of the public operations: each equals the definition or raises an error that names an argument."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]


def _fuzz(seed: int, calls: int, log: Path) -> str:
    """Runs the fuzzer in a process of its own, so that a crash shows, and returns the last line of its output."""
    path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    finished = subprocess.run(
        [sys.executable, "-m", "support.kernel_fuzzer", str(seed), str(calls)],
        cwd=_TESTS,
        env={**os.environ, "PYTHONPATH": path, "KERNEL_FUZZER_LOG": str(log), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, f"{finished.stdout}{finished.stderr}\nLast call: {log.read_text()}"
    return finished.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_calls(seed, tmp_path):
    summary = _fuzz(seed, 1000, tmp_path / "call.txt")
    assert summary.startswith("1000 calls: "), summary
    assert summary.endswith(" 0 wrong"), summary
