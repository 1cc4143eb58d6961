"""Text tables: aligned columns, short numbers, costs, scalars, confused classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from attnzoo.zoo.analysis.confusion import ConfusionMatrix, most_confused_pairs
from attnzoo.zoo.analysis.flops import count_cost
from attnzoo.zoo.analysis.training_logs import read_training_log
from attnzoo.zoo.plots.tables import (
    align_pairs,
    confused_pair_table,
    cost_table,
    format_count,
    scalar_table,
    shorten_class_name,
)
from attnzoo.zoo.registry import MODELS
from support.small_detector import MASK_RCNN
from support.training_logs import write_log


def test_numbers_are_written_short():
    numbers = [0, 999, 1000, 9996, 123456, 999600, 1234567, 4_500_000_000]
    assert [format_count(one) for one in numbers] == [
        "0", "999", "1.00 k", "10.0 k", "123 k", "1.00 M", "1.23 M", "4.50 G",
    ]  # fmt: skip


def test_the_table_shows_as_deep_as_asked():
    with torch.device("meta"):
        detector = MODELS.build(MASK_RCNN)
    cost = count_cost(detector, (64, 64))
    assert len(cost_table(cost, 0).splitlines()) == 2
    deep = [line.split()[0] for line in cost_table(cost, 2).splitlines()]
    assert deep.index("roi_head") < deep.index("bbox_head") < deep.index("mask_head")


def test_the_table_has_best_and_last_values_and_times(tmp_path: Path):
    logs = [
        read_training_log(write_log(tmp_path / "first")),
        read_training_log(write_log(tmp_path / "second", scale=2, iterations=20)),
    ]
    values, times = scalar_table(logs, ["loss", "bbox_mAP", "lr"]).split("\n\n")
    assert [line.split() for line in values.splitlines()[1:]] == [
        ["first", "loss", "0.025", "4", "0.025", "4"],
        ["first", "bbox_mAP", "20", "2", "10", "4"],
        ["first", "lr", "-", "-", "2.5e-05", "4"],
        ["second", "loss", "0.1", "2", "0.1", "2"],
        ["second", "bbox_mAP", "40", "2", "40", "2"],
        ["second", "lr", "-", "-", "5e-05", "2"],
    ]
    assert [line.split() for line in times.splitlines()[1:]] == [
        ["first", "40", "0.5", "20.0", "%", "0.3", "min"],
        ["second", "20", "0.5", "20.0", "%", "0.2", "min"],
    ]


def test_confused_pairs_have_their_counts_and_shares():
    confusion = ConfusionMatrix(("cat", "dog", "bird"), np.array([[6, 3, 1], [0, 40, 10], [0, 0, 0]]))
    lines = confused_pair_table(most_confused_pairs(confusion)).splitlines()
    assert lines[1].split() == ["dog", "bird", "10", "20.0", "%"]
    assert len(lines) == 4
    assert confused_pair_table([]) == "No classes were confused."


def test_names_and_values_are_aligned():
    assert align_pairs([("a", 1), ("long", "x")]) == "a     1\nlong  x"


def test_class_names_are_readable_and_truncated():
    assert shorten_class_name("n01484850") == "great white shark"
    assert shorten_class_name("n01484850", 6) == "great…"
