"""Tests of tools/draw_predictions.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attnzoo.tools import draw_predictions as tool
from attnzoo.zoo.analysis.predictions import Prediction
from support.classifier_predictions import twenty_predictions, write_predictions


@pytest.fixture
def predictions() -> list[Prediction]:
    return twenty_predictions()


def test_plot_of_a_work_dir(tmp_path: Path, predictions: list[Prediction], capsys: pytest.CaptureFixture[str]):
    (tmp_path / "images").mkdir()
    for index in range(20):
        Image.new("L", (8, 8), 10 * index).save(tmp_path / f"images/{index}.png")
    write_predictions(tmp_path / "predictions.json", predictions)
    (tmp_path / "results.json").write_text('{"model": "nat_mini"}')
    assert tool.model_name(tmp_path) == "nat_mini: "
    assert tool.main([str(tmp_path), "--root", str(tmp_path), "--count", "10", "--columns", "5"]) == 0
    assert "10 images" in capsys.readouterr().out
    with Image.open(tmp_path / "predictions.png") as image:
        assert image.size[0] > 700
    out = tmp_path / "deep" / "other.png"
    assert tool.main([str(tmp_path / "predictions.json"), "--root", str(tmp_path), "--out", str(out)]) == 0
    assert out.is_file()


def test_user_errors(tmp_path: Path, predictions: list[Prediction], capsys: pytest.CaptureFixture[str]):
    assert tool.main([str(tmp_path)]) == 2
    assert "There is no file" in capsys.readouterr().err
    write_predictions(tmp_path / "predictions.json", predictions)
    assert tool.model_name(tmp_path) == ""
    assert tool.main([str(tmp_path), "--root", str(tmp_path)]) == 2
    assert "There is no image" in capsys.readouterr().err
    assert tool.main([str(tmp_path), "--count", "0"]) == 2
    assert "--count must be >= 1, got 0." in capsys.readouterr().err
