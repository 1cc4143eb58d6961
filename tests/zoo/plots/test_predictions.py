"""Predictions of single images: written, read, chosen, drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.tools import draw_predictions as tool
from attnzoo.zoo.evaluation import PredictionWriter
from attnzoo.zoo.plots.predictions import (
    Prediction,
    choose_predictions,
    draw_predictions,
    read_predictions,
    spoken_name,
)

CLASSES = ("cat", "dog", "a name that is far too long to print")


def prediction(index: int, label: int | None, guess: int, score: float = 0.75) -> Prediction:
    name = "None" if label is None else CLASSES[label]
    return Prediction(index, f"images/{index}.png", label, name, guess, CLASSES[guess], score)


def write(path: Path, predictions: list[Prediction]) -> None:
    """Writes them as an evaluation does."""
    writer = PredictionWriter(str(path), topk=2)
    writer.dataset_meta = {"classes": CLASSES}
    for each in predictions:
        scores = torch.full((3,), (1 - each.score) / 2)
        scores[each.guess] = each.score
        writer.process(None, [{"index": each.index, "path": each.path, "label": each.label, "scores": scores}])
    writer.evaluate(len(predictions))


@pytest.fixture
def predictions() -> list[Prediction]:
    return [prediction(i, label=i % 3, guess=(i + (i % 5 == 0)) % 3, score=0.5 + i / 64) for i in range(20)]


def test_what_an_evaluation_writes_is_read(tmp_path: Path, predictions: list[Prediction]):
    predictions.append(prediction(20, None, 1, score=0.875))
    write(tmp_path / "predictions.json", predictions)
    for given in (tmp_path / "predictions.json", tmp_path):
        assert read_predictions(given) == predictions


@pytest.mark.parametrize("text", ["", "{}[", "[3]", '[{"path": 1}]', '[{"label": 1, "predictions": []}]'])
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "predictions.json").write_text(text)
    with pytest.raises(ValueError, match="does not hold predictions"):
        read_predictions(tmp_path)


def test_wordnet_ids_are_spoken():
    assert spoken_name("n01484850") == "great white shark"
    assert spoken_name("n99999999") == "n99999999"
    assert spoken_name("cat") == "cat"


def test_wrong_ones_are_chosen_first_most_certain_ahead(predictions: list[Prediction]):
    chosen = choose_predictions(predictions, 8)
    assert chosen[:2] == [15, 10]  # of the wrong ones 0, 5, 10, 15
    assert all(predictions[position].correct for position in chosen[2:])
    assert len(set(chosen)) == 8
    assert chosen == choose_predictions(predictions, 8)
    assert chosen != choose_predictions(predictions, 8, seed=1)
    assert choose_predictions(predictions, 100, wrong=0) == [i for i in range(20) if i % 5]
    assert len(choose_predictions(predictions, 100, wrong=100)) == 20


def colours(content: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.abs(np.asarray(image.convert("RGB")).astype(int) - np.array(colour)).sum(-1) < 30


def test_wrong_predictions_are_framed_in_red():
    def load(prediction: Prediction) -> Image.Image:
        return Image.new("RGB", (8, 8), (0, 0, 255))

    red, green, blue = (214, 39, 40), (44, 160, 44), (0, 0, 255)
    right = draw_predictions([prediction(0, 0, 0), prediction(1, 1, 1)], load, title="right")
    wrong = draw_predictions([prediction(0, 0, 0), prediction(1, 1, 2)], load, title="wrong")
    unknown = draw_predictions([prediction(0, None, 0)], load)
    assert colours(right, blue).sum() > 20_000
    assert colours(right, red).sum() == 0
    assert colours(right, green).sum() > 50
    frame = colours(wrong, red)
    assert frame.sum() > 1000
    assert frame[:, : frame.shape[1] // 2].sum() == 0
    assert colours(unknown, red).sum() < 50  # a few mixed pixels at most
    assert colours(unknown, green).sum() < 50


def test_there_must_be_something_to_draw():
    with pytest.raises(ValueError, match="no predictions to draw"):
        draw_predictions([], lambda prediction: Image.new("L", (8, 8)))


def test_the_tool_draws_from_a_work_dir(
    tmp_path: Path, predictions: list[Prediction], capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "images").mkdir()
    for index in range(20):
        Image.new("L", (8, 8), 10 * index).save(tmp_path / f"images/{index}.png")
    write(tmp_path / "predictions.json", predictions)
    (tmp_path / "results.json").write_text('{"model": "nat_mini"}')
    assert tool.model_name(tmp_path) == "nat_mini: "
    assert tool.main([str(tmp_path), "--root", str(tmp_path), "--count", "10", "--columns", "5"]) == 0
    assert "10 images" in capsys.readouterr().out
    with Image.open(tmp_path / "predictions.png") as image:
        assert image.size[0] > 700
    out = tmp_path / "deep" / "other.png"
    assert tool.main([str(tmp_path / "predictions.json"), "--root", str(tmp_path), "--out", str(out)]) == 0
    assert out.is_file()


def test_the_tool_says_what_is_missing(
    tmp_path: Path, predictions: list[Prediction], capsys: pytest.CaptureFixture[str]
):
    assert tool.main([str(tmp_path)]) == 2
    assert "There is no file" in capsys.readouterr().err
    write(tmp_path / "predictions.json", predictions)
    assert tool.model_name(tmp_path) == ""
    assert tool.main([str(tmp_path), "--root", str(tmp_path)]) == 2
    assert "There is no image" in capsys.readouterr().err
    assert tool.main([str(tmp_path), "--count", "0"]) == 2
    assert "--count is 0" in capsys.readouterr().err
