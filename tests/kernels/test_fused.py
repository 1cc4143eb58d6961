"""Runs the fused kernels in Triton's interpreter, which must be chosen before Triton is imported: in own processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnzoo.kernels.neighborhood import fused
from attnzoo.kernels.neighborhood.geometry import Geometry, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands

_FILES = sorted((Path(__file__).parent / "interpreted").glob("test_*.py"))


def _run_interpreted(path: Path, marks: str) -> None:
    """Runs a file's tests; a failure shows their names and reasons."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "-rf"]
    finished = subprocess.run(
        [*command, "-m", marks, str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    assert passed, f"{path.name} ran no test:\n{finished.stdout}"


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_interpreted(path):
    _run_interpreted(path, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in _FILES if "mark.slow" in path.read_text()], ids=lambda path: path.stem
)
def test_interpreted_at_length(path):
    _run_interpreted(path, "slow")


@pytest.mark.parametrize(
    ("dtype", "dim", "dim_v", "message"),
    [
        (torch.float64, 4, 4, r"takes torch.float32, .* but the operands are torch.float64.*backend=.torch"),
        (torch.float32, 129, 4, "dims of up to 128, but query and key have 129"),
        (torch.bfloat16, 4, 300, "dims of up to 256, but value have 300"),
    ],
)
def test_what_the_kernels_do_not_take(dtype, dim, dim_v, message):
    query, value = torch.zeros(1, 2, 2, 1, dim, dtype=dtype), torch.zeros(1, 2, 2, 1, dim_v, dtype=dtype)
    operands, geometry = Operands(query, query, value), Geometry(Neighborhood(2), Neighborhood(2))
    with pytest.raises(ValueError, match=message):
        fused.forward(operands, geometry, 1.0)
    with pytest.raises(ValueError, match=message):
        fused.backward(value, None, operands, value, value[..., 0], geometry, 1.0)
