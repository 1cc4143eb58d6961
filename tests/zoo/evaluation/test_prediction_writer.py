"""Predicted classes are written in the order of the data set."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.evaluator import Evaluator

from attnzoo.zoo.evaluation import Accuracy, PredictionWriter, base
from support.evaluation import classified, evaluate


def test_predictions_are_written_in_the_data_sets_order(tmp_path, monkeypatch):
    samples = classified(7, classes=6)
    file = tmp_path / "work" / "predictions.json"
    first, second = PredictionWriter(str(file), topk=2), PredictionWriter(str(file), topk=2)
    first.dataset_meta = second.dataset_meta = {"classes": tuple("abcdef")}
    first.process({}, samples[0::2])
    second.process({}, samples[1::2])
    monkeypatch.setattr(base, "all_gather_object", lambda own: [list(own), list(second.results)])
    assert first.evaluate(7) == {}
    content = json.loads(file.read_text())
    assert [one["index"] for one in content] == list(range(7))
    for entry, sample in zip(content, samples, strict=True):
        values, places = sample["scores"].sort(descending=True)
        assert entry["path"] == sample["path"]
        assert (entry["label"], entry["class"]) == (sample["label"], "abcdef"[sample["label"]])
        assert entry["predictions"] == [
            {"label": int(place), "class": "abcdef"[int(place)], "score": pytest.approx(float(value))}
            for place, value in zip(places[:2], values[:2], strict=True)
        ]


def test_predictions_without_names_labels_or_enough_classes(tmp_path):
    file = tmp_path / "predictions.json"
    scores = torch.tensor([0.25, float("nan"), 0.5])
    evaluate(PredictionWriter(str(file)), [{"scores": scores, "label": None, "index": 0, "path": None}])
    best = [{"label": 2, "class": None, "score": 0.5}, {"label": 0, "class": None, "score": 0.25}]
    best.append({"label": 1, "class": None, "score": 0.0})
    assert json.loads(file.read_text()) == [
        {"index": 0, "path": None, "label": None, "class": None, "predictions": best}
    ]


def test_mmengines_evaluator_runs_them(tmp_path):
    metrics = [Accuracy(topk=(1,)), PredictionWriter(str(tmp_path / "predictions.json"))]
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = {"classes": tuple("abcdefgh")}
    samples = classified(6)
    evaluator.process(samples, {})  # pyright: ignore[reportArgumentType] (mmengine's own tasks give dicts as well)
    assert set(evaluator.evaluate(6)) == {"top1"}
    assert json.loads((tmp_path / "predictions.json").read_text())[0]["class"] in "abcdefgh"


@pytest.mark.parametrize("topk", [0, -1, 1.5])
def test_topk_out_of_range_raises(topk):
    with pytest.raises(ValueError, match=f"topk must be an integer >= 1, got {topk}"):
        PredictionWriter(topk=topk)
