"""Tests of tools/confusion.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attnzoo.tools import confusion as tool


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    content = {"classes": [{"name": "cat"}, {"name": "dog"}], "confusion": [[8, 2], [5, 5]]}
    (tmp_path / "confusion.json").write_text(json.dumps(content))
    return tmp_path


def test_plot_of_a_work_dir(work_dir: Path, capsys: pytest.CaptureFixture[str]):
    assert tool.main([str(work_dir)]) == 0
    with Image.open(work_dir / "confusion.png") as image:
        assert min(image.size) > 300
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["dog", "cat", "5"], ["cat", "dog", "2"]]
    assert lines[-1].endswith("confusion.png: 2 classes, 13 of 20 correct")
    assert tool.main([str(work_dir), "--by", "share", "--pairs", "1", "--out", str(work_dir / "new" / "x.png")]) == 0
    assert (work_dir / "new" / "x.png").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_detector_results_are_matched_with_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    truth = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}],
    }
    detections = [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 20, 18], "score": 0.5}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.bbox.json").write_text(json.dumps(detections))
    command = [str(tmp_path / "results.bbox.json"), "--annotations", str(tmp_path / "truth.json")]
    assert tool.main([*command, "--json", str(tmp_path / "matrix.json")]) == 0
    assert (tmp_path / "confusion.png").is_file()
    out = capsys.readouterr().out
    assert "3 classes, 0 of 1 correct" in out
    assert out.splitlines()[1].split()[:2] == ["cat", "dog"]
    assert tool.main([str(tmp_path / "matrix.json")]) == 0  # the tool can read what it wrote
    assert capsys.readouterr().out == out
    assert tool.main([*command, "--iou", "0.95"]) == 0
    assert "0 of 2 correct" in capsys.readouterr().out


def test_user_errors(tmp_path: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]):
    for arguments, message in [
        ([str(tmp_path / "nowhere")], "There is no file"),
        ([str(work_dir), "--classes", "1"], "--classes must be >= 2, got 1."),
        ([str(work_dir / "confusion.json"), "--annotations", str(tmp_path / "no.json")], "not a results file"),
    ]:
        assert tool.main(arguments) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.startswith("error: ")
