"""Mean intersection over union from a confusion matrix over the complete data set."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from attnzoo.zoo.evaluation import MeanIoU, base
from attnzoo.zoo.evaluation.mean_iou import confusion_of
from support.evaluation import CLASS_NAMES, evaluate, metric, segmented


def brute_force(samples, classes):
    """Figures from all pixels of all images in one row, counted class by class."""
    truth = torch.cat([sample["truth"].flatten().long() for sample in samples])
    predicted = torch.cat([sample["label_map"].flatten() for sample in samples])[truth != 255]
    truth = truth[truth != 255]
    iou, accuracy = [], []
    for label in range(classes):
        both = ((truth == label) & (predicted == label)).sum().item()
        either = ((truth == label) | (predicted == label)).sum().item()
        total = (truth == label).sum().item()
        iou.append(100 * both / either if either else None)
        accuracy.append(100 * both / total if total else None)
    confusion = [
        [((truth == row) & (predicted == column)).sum().item() for column in range(classes)] for row in range(classes)
    ]
    return iou, accuracy, 100 * (truth == predicted).double().mean().item(), confusion


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def test_metrics_match_counting_all_pixels():
    samples = segmented()
    iou, accuracy, right, _ = brute_force(samples, len(CLASS_NAMES))
    got = evaluate(metric(), samples)
    assert got == {
        "mIoU": pytest.approx(mean(iou)),
        "mAcc": pytest.approx(mean(accuracy)),
        "aAcc": pytest.approx(right),
    }
    assert iou[4] is None
    alone = [evaluate(metric(), [{**sample, "index": 0}])["mIoU"] for sample in samples]
    assert abs(float(np.mean(alone)) - got["mIoU"]) > 1e-3


def test_a_class_that_is_only_predicted_counts_in_miou_alone():
    truth, predicted = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 0, 2, 3]])
    sample = {"truth": truth, "label_map": predicted, "index": 0, "path": "a"}
    got = evaluate(metric(), [sample])
    # Class 2 is predicted once, never right; class 3 is predicted only where nothing counts.
    assert got["mIoU"] == pytest.approx((100 + 0 + 0) / 3)
    assert got["mAcc"] == pytest.approx((100 + 0) / 2)
    assert got["aAcc"] == pytest.approx(200 / 3)


def test_metrics_without_labels_are_0():
    sample = {
        "truth": torch.full((2, 2), 255),
        "label_map": torch.zeros(2, 2, dtype=torch.int64),
        "index": 0,
        "path": "a",
    }
    assert evaluate(metric(), [sample]) == {"mIoU": 0.0, "mAcc": 0.0, "aAcc": 0.0}


def test_metrics_per_class_and_confusion_matrix(tmp_path):
    samples = segmented(seed=1)
    iou, accuracy, _, confusion = brute_force(samples, len(CLASS_NAMES))
    got = evaluate(metric(per_class=True, out_file=str(tmp_path / "new/classes.json")), samples)
    content = json.loads((tmp_path / "new/classes.json").read_text())
    assert content["confusion"] == confusion
    assert content["figures"] == {name: got[name] for name in ("mIoU", "mAcc", "aAcc")}
    assert [one["name"] for one in content["classes"]] == list(CLASS_NAMES)
    assert [one["pixels"] for one in content["classes"]] == [sum(row) for row in confusion]
    for label, one in enumerate(content["classes"][:4]):
        assert one["IoU"] == pytest.approx(iou[label]) == pytest.approx(got[f"IoU.{CLASS_NAMES[label]}"])
        assert one["Acc"] == pytest.approx(accuracy[label]) == pytest.approx(got[f"Acc.{CLASS_NAMES[label]}"])
    assert content["classes"][4] == {"name": "never", "IoU": None, "Acc": None, "pixels": 0}
    assert "IoU.never" not in got


def test_processes_of_unequal_length_are_put_together_exactly(monkeypatch):
    samples = segmented(5)
    alone = evaluate(metric(), samples)
    first, second = metric(), metric()
    first.process({}, samples[0::2])
    second.process({}, [*samples[1::2], samples[0]])
    monkeypatch.setattr(base, "all_gather_object", lambda own: [list(own), list(second.results)])
    assert first.evaluate(5) == alone
    missing = metric()
    missing.process({}, samples[:3])
    monkeypatch.undo()
    with pytest.raises(ValueError, match="MeanIoU got 3 of the data set's 5 samples"):
        missing.evaluate(5)


def test_what_is_kept_of_an_image_is_small():
    (sample,) = segmented(1)
    pairs, pixels = confusion_of(sample["label_map"], sample["truth"], 150, "a")
    assert len(pairs) == len(pixels) == 16
    assert pixels.sum() == (sample["truth"] != 255).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"truth": torch.full((20, 30), 5)},
            r"in/0\.png has the label 5, but the data set has 5 classes\. Correct the labels",
        ),
        ({"truth": torch.full((20, 30), -1)}, r"in/0\.png has the label -1"),
        (
            {"label_map": torch.full((20, 30), 7)},
            r"in/0\.png has the prediction 7, .* Set the num_classes of the model",
        ),
        (
            {"label_map": torch.zeros(20, 29)},
            r"in/0\.png: a prediction must have the size of the label map, \(20, 30\), got \(20, 29\)",
        ),
        ({"truth": None}, r"in/0\.png has no labels.*SegmentationWriter"),
    ],
)
def test_predictions_that_do_not_match_the_labels_raise(change, message):
    (sample,) = segmented(1)
    with pytest.raises(ValueError, match=message):
        metric().process({}, [{**sample, **change}])


def test_class_names_are_needed():
    with pytest.raises(ValueError, match="needs class names"):
        MeanIoU().process({}, segmented(1))
