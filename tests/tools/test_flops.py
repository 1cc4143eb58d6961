"""Tests of tools/flops.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo.tools import flops
from support.small_detector import MASK_RCNN


def test_table_for_a_model(capsys: pytest.CaptureFixture[str]):
    assert flops.main(["nat_mini", "--depth", "2"]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert lines[0].split() == ["module", "class", "parameters", "MACs", "share", "activations"]
    assert lines[1].split()[:3] == ["the", "model", "NAT"]
    assert sum(line.strip().startswith(("0 ", "1 ", "2 ", "3 ")) for line in lines) == 4
    assert "nat_mini, an image of 224 x 224 pixels: 2.69 G MACs = 5.3" in output


def test_json_for_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "costs.json"
    assert flops.main(["nat_digits", "--size", "48", "64", "--json", "--out", str(out)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(out.read_text())
    assert (report["image_size"], report["architecture"]) == ([48, 64], "nat_mini")
    assert report["flops"] == 2 * report["macs"]
    assert [module["name"] for module in report["modules"]] == ["backbone"]
    assert report["modules"][0]["macs"] == report["macs"]


def test_table_for_a_detector_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "detector.py"
    path.write_text(f"model = {MASK_RCNN!r}\n")
    assert flops.main([str(path), "--size", "64", "96", "--proposals", "10", "--detections", "4"]) == 0
    output = capsys.readouterr().out
    assert "64 x 96 pixels, 10 proposals, 4 detections" in output
    assert {"backbone", "neck", "rpn_head", "roi_head"} <= {line.split()[0] for line in output.splitlines() if line}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nat_mimi"], "Did you mean"),
        (["nat_mini", "--depth", "-1"], "--depth must be >= 0, got -1."),
        (["nat_mini", "--size", "8"], "Images must be at least"),
    ],
)
def test_user_errors(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert flops.main(argv) == 2
    assert message in capsys.readouterr().err
