"""Predictions of single images: read as an evaluation wrote them, and chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.analysis.predictions import (
    Prediction,
    choose_predictions,
    read_predictions,
    readable_class_name,
)
from support.classifier_predictions import prediction, twenty_predictions, write_predictions


@pytest.fixture
def predictions() -> list[Prediction]:
    return twenty_predictions()


def test_what_an_evaluation_writes_is_read(tmp_path: Path, predictions: list[Prediction]):
    predictions.append(prediction(20, None, 1, score=0.875))
    write_predictions(tmp_path / "predictions.json", predictions)
    for given in (tmp_path / "predictions.json", tmp_path):
        assert read_predictions(given) == predictions


@pytest.mark.parametrize("text", ["", "{}[", "[" * 10**5])
def test_damaged_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "predictions.json").write_text(text)
    with pytest.raises(ValueError, match=r"predictions\.json is not valid JSON"):
        read_predictions(tmp_path)


CORRECT = {"index": 0, "path": "a", "label": 1, "class": None}


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {"path": 1},
        {"label": 1, "predictions": []},
        {**CORRECT, "predictions": [{"label": 1, "class": "a", "score": float("nan")}]},
        {**CORRECT, "predictions": [{"label": float("inf"), "class": "a", "score": 1}]},
        {**CORRECT, "label": [1], "predictions": [{"label": 1, "class": "a", "score": 1}]},
        {**CORRECT, "predictions": [None]},
    ],
)
def test_other_files_are_refused(tmp_path: Path, entry: Any):
    for content in ([entry], {"predictions": entry}):
        (tmp_path / "predictions.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"predictions\.json does not contain predictions"):
            read_predictions(tmp_path)


def test_wordnet_ids_become_readable():
    assert readable_class_name("n01484850") == "great white shark"
    assert readable_class_name("n99999999") == "n99999999"
    assert readable_class_name("cat") == "cat"


def test_wrong_predictions_with_the_highest_scores_are_chosen_first(predictions: list[Prediction]):
    chosen = choose_predictions(predictions, 8)
    assert chosen[:2] == [15, 10]  # of the wrong ones 0, 5, 10, 15
    assert all(predictions[position].correct for position in chosen[2:])
    assert len(set(chosen)) == 8
    assert chosen == choose_predictions(predictions, 8)
    assert chosen != choose_predictions(predictions, 8, seed=1)
    assert choose_predictions(predictions, 100, wrong=0) == [i for i in range(20) if i % 5]
    assert len(choose_predictions(predictions, 100, wrong=100)) == 20
