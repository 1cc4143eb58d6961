"""Runs the kernels' tests in Triton's interpreter, in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from support.interpreter import INTERPRETED_TESTS, KERNEL_TESTS


def _run_interpreted(files: list[str], marks: str) -> None:
    """Runs the tests of some files; a failure shows their names and reasons."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "-rf"]
    finished = subprocess.run(
        [*command, "-m", marks, *(str(KERNEL_TESTS / file) for file in files)],
        cwd=KERNEL_TESTS.parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    assert passed, f"no test ran:\n{finished.stdout}"
    for file in files:
        assert (KERNEL_TESTS / file).is_file(), file


_LARGE = [file for file in INTERPRETED_TESTS if "mark.slow" in (KERNEL_TESTS / file).read_text()]
_QUICK = [file for file in _LARGE if "published" not in file]  # the pack's cases take long, so they are slow as a whole
_SMALL = [file for file in INTERPRETED_TESTS if file not in _LARGE]


@pytest.mark.parametrize("files", [*([file] for file in _QUICK), _SMALL], ids=lambda files: files[0])
def test_interpreted(files):
    _run_interpreted(files, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize("file", _LARGE)
def test_interpreted_slow(file):
    _run_interpreted([file], "slow" if file in _QUICK else "slow or not slow")
