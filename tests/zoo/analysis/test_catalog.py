"""Published accuracies that are comparable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnzoo import get_pretrained_cfg
from attnzoo.zoo.analysis import catalog
from attnzoo.zoo.analysis.catalog import accuracy_points


def test_points_are_the_best_comparable_checkpoints():
    points = accuracy_points("nat")
    assert [macs for _, macs, _ in points] == sorted(macs for _, macs, _ in points)
    cfg = get_pretrained_cfg("nat_mini.in1k")
    assert ("nat_mini", cfg.macs, cfg.top1) in points
    assert len({name for name, *_ in points}) == len(points)


def test_other_training_data_and_larger_sizes_are_not_comparable(monkeypatch: pytest.MonkeyPatch):
    tags = {"22k_ft_in1k": 90.0, "larger": 89.0, "in1k": 80.0, "unknown": None}

    def cfg_of(name: str):
        top1 = tags[name.partition(".")[2]]
        larger = (3, 384, 384) if name.endswith("larger") else None
        return replace(get_pretrained_cfg("nat_mini.in1k"), top1=top1, macs=2.0, test_input_size=larger)

    monkeypatch.setattr(catalog, "list_models", lambda family: ["model"])
    monkeypatch.setattr(catalog, "get_tags", lambda name: list(tags))
    monkeypatch.setattr(catalog, "get_pretrained_cfg", cfg_of)
    assert catalog.accuracy_points("any") == [("model", 2.0, 80.0)]
