"""Top-k accuracy, per class too, and the confusion matrix."""

from __future__ import annotations

import json

import pytest
import torch

from attnzoo.zoo.evaluation import Accuracy, accuracy
from attnzoo.zoo.evaluation.accuracy import rank_of_label
from attnzoo.zoo.registry import METRICS
from support.evaluation import classified, evaluate


def test_accuracy_counts_labels_among_the_best_k():
    samples = classified()
    got = evaluate(METRICS.build({"type": "Accuracy", "topk": (1, 3, 5)}), samples)
    assert list(got) == ["top1", "top3", "top5"]
    for k in (1, 3, 5):
        right = sum(one["label"] in one["scores"].topk(k).indices.tolist() for one in samples)
        assert got[f"top{k}"] == pytest.approx(100 * right / 50)


def test_the_rank_of_a_label_by_hand():
    assert rank_of_label(torch.tensor([0.1, 0.7, 0.2]), 1) == 0
    assert rank_of_label(torch.tensor([0.1, 0.7, 0.2]), 0) == 2
    equal = torch.ones(4)
    assert [rank_of_label(equal, label) for label in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_never_right(bad):
    samples = [{"scores": torch.full((3,), bad), "label": label, "index": label, "path": ""} for label in range(3)]
    assert evaluate(Accuracy(topk=(1, 2)), samples) == {"top1": 0.0, "top2": 0.0}


def test_with_no_more_than_k_classes_top_k_is_100():
    got = evaluate(Accuracy(topk=(1, 5)), classified(20, classes=3))
    assert got["top5"] == 100.0
    assert got["top1"] < 100.0


def test_labels_outside_of_the_models_classes_raise():
    (sample,) = classified(1, classes=3)
    for label in (3, -1, None):
        with pytest.raises(ValueError, match=rf"0\.png has the label {label}, but the model has 3 classes"):
            Accuracy().process({}, [{**sample, "label": label}])


def test_metrics_per_class_and_confusion_matrix(tmp_path):
    samples = [one for one in classified(60, classes=5) if one["label"] != 4]
    samples = [{**one, "index": index} for index, one in enumerate(samples)]
    metric = Accuracy(topk=(1,), per_class=True, out_file=str(tmp_path / "new" / "classes.json"))
    metric.dataset_meta = {"classes": ("a", "b", "c", "d", "e")}
    got = evaluate(metric, samples)
    expected = torch.zeros(5, 5, dtype=torch.int64)
    for one in samples:
        expected[one["label"], one["scores"].argmax()] += 1
    content = json.loads((tmp_path / "new" / "classes.json").read_text())
    assert content["confusion"] == expected.tolist()
    assert [one["name"] for one in content["classes"]] == list("abcde")
    assert [one["images"] for one in content["classes"]] == expected.sum(1).tolist()
    parts = [100 * float(expected[label, label] / expected[label].sum()) for label in range(4)]
    assert [one["top1"] for one in content["classes"]] == [*map(pytest.approx, parts), None]
    assert got["mean_class_top1"] == pytest.approx(sum(parts) / 4)
    assert got["top1"] == pytest.approx(100 * float(expected.trace() / expected.sum()))


@pytest.mark.parametrize("topk", [(), (0,), (1.5,)])
def test_topk_out_of_range_raises(topk):
    with pytest.raises(ValueError, match="topk must be one or more integers >= 1"):
        Accuracy(topk=topk)


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "is_main_process", lambda: False)
    evaluate(Accuracy(out_file=str(tmp_path / "a.json")), classified(4))
    assert not list(tmp_path.iterdir())
