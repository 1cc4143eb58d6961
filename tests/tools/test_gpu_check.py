"""Tests of tools/gpu_check.py without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attnzoo.tools import gpu_check

SCRIPT = Path(gpu_check.__file__).resolve()


def test_missing_gpu_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "report.json"
    assert gpu_check.main(["--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "There is no CUDA device" in error
    assert "--device cpu" in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "hallo"], "Unknown part 'hallo'. Did you mean 'halo'"),
        (["--budget", "0"], "--budget must be positive, got 0."),
    ],
)
def test_user_errors(options: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert gpu_check.main(["--device", "cpu", *options]) == 2
    assert message in capsys.readouterr().err


def test_selected_parts_keep_their_order():
    assert gpu_check._select_parts(["halo", "tests"], ["environment", "tests", "halo"]) == ["tests", "halo"]
    assert gpu_check._select_parts(None, ["environment", "tests"]) == ["environment", "tests"]


def test_checkout_is_importable_without_installation(monkeypatch: pytest.MonkeyPatch):
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setenv("PYTHONPATH", "other")
    gpu_check.make_importable()
    assert sys.path == path
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    gpu_check.make_importable()
    link = Path(sys.path[0]) / "attnzoo"
    assert link.resolve() == SCRIPT.parents[1]
    assert os.environ["PYTHONPATH"] == f"{sys.path[0]}{os.pathsep}other"


@pytest.mark.slow
def test_reduced_check_from_a_bare_checkout(tmp_path: Path):
    out = tmp_path / "report.json"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--budget", "240", "--out", str(out)]
    parts = [option for name in ("environment", "window", "van_b0") for option in ("--only", name)]
    done = subprocess.run(
        [*command, *parts], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["passed"] is True
    assert {name: part["status"] for name, part in report["parts"].items()} == {
        "environment": "passed",
        "window": "passed",
        "van_b0": "passed",
    }
    assert report["parts"]["van_b0"]["results"]["training"]["plain"]["ratio"] > 0
