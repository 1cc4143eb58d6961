"""The names of the classes that a training leaves in its work dir."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.training_toy import ToyDataset, build, toy_config


def test_training_leaves_the_names_of_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ToyDataset, "classes", ("häufig", "rare"), raising=False)
    build(toy_config(tmp_path, train_cfg__max_epochs=1)).train()
    assert json.loads((tmp_path / "classes.json").read_text(encoding="utf-8")) == ["häufig", "rare"]


def test_names_of_an_earlier_training_go_where_there_are_none(tmp_path: Path):
    (tmp_path / "classes.json").write_text('["old"]')
    build(toy_config(tmp_path, train_cfg__max_epochs=1)).train()
    assert not (tmp_path / "classes.json").exists()
