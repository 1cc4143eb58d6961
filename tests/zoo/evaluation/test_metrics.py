import json

import pytest
import torch
from mmengine.evaluator import Evaluator

from attnzoo.zoo.evaluation import Accuracy, PredictionWriter, accuracy, base
from attnzoo.zoo.evaluation.accuracy import rank_of_label
from attnzoo.zoo.registry import METRICS


def predictions(count=50, classes=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, classes, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator).tolist()
    return [
        {"scores": row, "label": label, "index": index, "path": f"{index}.png"}
        for index, (row, label) in enumerate(zip(scores, labels, strict=True))
    ]


def evaluate(metric, samples, size=None):
    metric.process({}, samples[: len(samples) // 2])
    metric.process({}, samples[len(samples) // 2 :])
    return metric.evaluate(len(samples) if size is None else size)


@pytest.fixture
def two_ranks(monkeypatch):
    """Lets a metric gather its own results and those of another process."""

    def share(other):
        monkeypatch.setattr(base, "all_gather_object", lambda own: [list(own), list(other.results)])

    return share


def test_accuracy_counts_labels_among_the_best_k():
    samples = predictions()
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
    got = evaluate(Accuracy(topk=(1, 5)), predictions(20, classes=3))
    assert got["top5"] == 100.0
    assert got["top1"] < 100.0


def test_processes_of_unequal_length_are_put_together_exactly(two_ranks):
    samples = predictions(11)
    alone = evaluate(Accuracy(topk=(1, 3)), samples)
    first, second = Accuracy(topk=(1, 3)), Accuracy(topk=(1, 3))
    first.process({}, samples[0::2])
    # A sampler that rounds up gives a sample twice.
    second.process({}, [*samples[1::2], samples[0]])
    two_ranks(second)
    assert first.evaluate(11) == alone


def test_an_evaluation_that_missed_samples_raises():
    samples = predictions(10)
    with pytest.raises(ValueError, match=r"Accuracy got 9 of the data set's 10 samples.*EvaluationSampler"):
        evaluate(Accuracy(), samples[:9], size=10)


def test_an_evaluation_forgets_the_one_before():
    samples, metric = predictions(10), Accuracy()
    assert evaluate(metric, samples[:4]) == evaluate(Accuracy(), samples[:4])
    assert evaluate(metric, samples[4:]) == evaluate(Accuracy(), samples[4:])


def test_labels_outside_of_the_models_classes_raise():
    (sample,) = predictions(1, classes=3)
    for label in (3, -1, None):
        with pytest.raises(ValueError, match=rf"0\.png has the label {label}, the model has 3 classes"):
            Accuracy().process({}, [{**sample, "label": label}])


def test_figures_of_classes_and_the_confusion_matrix(tmp_path):
    samples = [one for one in predictions(60, classes=5) if one["label"] != 4]
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
def test_impossible_k_raise(topk):
    with pytest.raises(ValueError, match="topk"):
        Accuracy(topk=topk)
    with pytest.raises(ValueError, match="topk"):
        PredictionWriter(topk=topk[0] if topk else 0)


def test_names_have_a_prefix_on_demand_only():
    samples = predictions(4)
    assert set(evaluate(Accuracy(topk=(1,)), samples)) == {"top1"}
    assert set(evaluate(Accuracy(topk=(1,), prefix="ema"), samples)) == {"ema/top1"}


def test_predictions_are_written_in_the_data_sets_order(tmp_path, two_ranks):
    samples = predictions(7, classes=6)
    file = tmp_path / "work" / "predictions.json"
    first, second = PredictionWriter(str(file), topk=2), PredictionWriter(str(file), topk=2)
    first.dataset_meta = second.dataset_meta = {"classes": tuple("abcdef")}
    first.process({}, samples[0::2])
    second.process({}, samples[1::2])
    two_ranks(second)
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


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "is_main_process", lambda: False)
    evaluate(Accuracy(out_file=str(tmp_path / "a.json")), predictions(4))
    assert not list(tmp_path.iterdir())


def test_mmengines_evaluator_runs_them(tmp_path):
    metrics = [Accuracy(topk=(1,)), PredictionWriter(str(tmp_path / "predictions.json"))]
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = {"classes": tuple("abcdefgh")}
    samples = predictions(6)
    evaluator.process(samples, {})  # pyright: ignore[reportArgumentType] (mmengine's own tasks give dicts as well)
    assert set(evaluator.evaluate(6)) == {"top1"}
    assert json.loads((tmp_path / "predictions.json").read_text())[0]["class"] in "abcdefgh"
