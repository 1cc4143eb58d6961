"""The Runner: what a config needs, and what it writes into the work dir."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo.zoo.training import build_runner
from support.training_toy import ToyDataset, build, toy_config


def test_incomplete_configs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs the key 'work_dir'"):
        build_runner({"model": {}})
    with pytest.raises(ValueError, match="defines no training"):
        build({"model": {"type": "ToyModel"}, "work_dir": str(tmp_path)}).train()
    with pytest.raises(ValueError, match="needs the key 'sampler'"):
        build(toy_config(tmp_path, train_dataloader={"batch_size": 2, "dataset": {"type": "ToyDataset"}})).train()


def test_two_runs_in_a_process_share_nothing(tmp_path):
    first, second = build(toy_config(tmp_path / "a")), build(toy_config(tmp_path / "b"))
    assert first.message_hub is not second.message_hub
    first.train()
    assert "train/loss" not in second.message_hub.log_scalars


def test_training_writes_its_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ToyDataset, "classes", ("häufig", "rare"), raising=False)
    build(toy_config(tmp_path, train_cfg__max_epochs=1)).train()
    assert json.loads((tmp_path / "classes.json").read_text(encoding="utf-8")) == ["häufig", "rare"]


def test_class_names_of_an_earlier_training_are_removed(tmp_path: Path):
    (tmp_path / "classes.json").write_text('["old"]')
    build(toy_config(tmp_path, train_cfg__max_epochs=1)).train()
    assert not (tmp_path / "classes.json").exists()
