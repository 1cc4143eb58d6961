"""Confusion matrices: read, shares, and the classes that are confused most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attnzoo.zoo.analysis.confusion import (
    BACKGROUND,
    ConfusedPair,
    ConfusionMatrix,
    most_confused_classes,
    most_confused_pairs,
    read_confusion,
)
from attnzoo.zoo.evaluation import Accuracy
from attnzoo.zoo.evaluation.mean_iou import MeanIoU

ANIMALS = ConfusionMatrix(("cat", "dog", "bird"), np.array([[6, 3, 1], [0, 40, 10], [0, 0, 0]]))


def test_what_an_evaluation_writes_is_read(tmp_path: Path):
    metric = Accuracy(topk=(1,), out_file=str(tmp_path / "confusion.json"))
    metric.dataset_meta = {"classes": ("cat", "dog", "bird")}
    for index, (label, guess) in enumerate([(0, 0), (0, 1), (1, 1), (1, 2), (1, 2)]):
        scores = torch.eye(3)[guess]
        metric.process(None, [{"index": index, "path": "", "label": label, "scores": scores}])
    metric.evaluate(5)
    for given in (tmp_path, tmp_path / "confusion.json"):
        confusion = read_confusion(given)
        assert confusion.names == ("cat", "dog", "bird")
        assert confusion.counts.tolist() == [[1, 1, 0], [0, 1, 2], [0, 0, 0]]
    (tmp_path / "plain.json").write_text('{"classes": ["a", "b"], "confusion": [[1, 2], [3, 4]]}')
    assert read_confusion(tmp_path / "plain.json").names == ("a", "b")


def test_what_an_evaluation_of_a_segmentor_writes_is_read(tmp_path: Path):
    metric = MeanIoU(out_file=str(tmp_path / "pixels.json"))
    metric.dataset_meta = {"classes": ("sky", "sea")}
    truth, guess = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 1, 1, 0]])
    metric.process(None, [{"index": 0, "path": "", "label_map": guess, "truth": truth}])
    metric.evaluate(1)
    confusion = read_confusion(tmp_path / "pixels.json")
    assert confusion.names == ("sky", "sea")
    assert confusion.counts.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"classes": ["a"], "confusion": [[1, 2]]}',
        '{"classes": ["a"], "confusion": [["x"]]}',
        '{"classes": ["a"], "confusion": [[-1]]}',
        '{"classes": [], "confusion": []}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "confusion.json").write_text(text)
    with pytest.raises(ValueError, match=r"confusion\.json (does not contain|must contain) a"):
        read_confusion(tmp_path)


def test_shares_are_of_the_true_class():
    assert ANIMALS.shares.tolist() == [[0.6, 0.3, 0.1], [0, 0.8, 0.2], [0, 0, 0]]


def test_the_worst_pairs_come_first():
    assert most_confused_pairs(ANIMALS) == [
        ConfusedPair("dog", "bird", 10, 0.2),
        ConfusedPair("cat", "dog", 3, 0.3),
        ConfusedPair("cat", "bird", 1, 0.1),
    ]
    assert [pair.count for pair in most_confused_pairs(ANIMALS, by="share")] == [3, 10, 1]
    assert len(most_confused_pairs(ANIMALS, limit=2)) == 2
    assert most_confused_pairs(ConfusionMatrix(("a", "b"), np.eye(2, dtype=int))) == []


def test_of_many_classes_the_most_confused_are_chosen():
    counts = 10 * np.eye(500, dtype=np.int64)
    counts[7, 300] = 5  # a third
    counts[12, 13] = 2  # a sixth
    counts[:, 499] += 20
    names = (*map(str, range(499)), BACKGROUND)
    confusion = ConfusionMatrix(names, counts)
    assert most_confused_classes(confusion, 3) == [7, 300, 499]
    assert most_confused_classes(confusion, 5) == [7, 12, 13, 300, 499]
    assert most_confused_classes(confusion, 500) == list(range(500))
    # A pair that exceeds the limit is skipped; the least accurate classes fill the rest.
    assert most_confused_classes(confusion, 4) == [7, 12, 300, 499]
