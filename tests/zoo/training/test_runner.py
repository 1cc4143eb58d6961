"""The Runner: what a config needs, and what it writes into the work dir."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.folder_lock import TRAINING_LOCK, FolderInUse
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import build_runner
from support.locks import lock_in_another_process
from support.training_toy import ToyDataset, ToyModel, build, toy_config


@MODELS.register_module()
class SeededToyModel(ToyModel):
    """ToyModel with a seed of its own, as tasks that mix images have."""

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.seed = seed


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


def test_two_processes_cannot_train_in_one_work_dir(tmp_path):
    build(toy_config(tmp_path, train_cfg__max_epochs=1)).train()
    with (
        lock_in_another_process(tmp_path, TRAINING_LOCK) as holder,
        pytest.raises(FolderInUse, match=f"in use by process {holder.pid} on .* or choose another --work-dir"),
    ):
        build(toy_config(tmp_path)).train()
    assert (tmp_path / "epoch_1.pth").exists()
    assert not list(tmp_path.glob("earlier_*"))
    build(toy_config(tmp_path, train_cfg__max_epochs=1)).train()


def test_the_seed_of_the_checkpoint_is_also_that_of_the_model(tmp_path):
    def runner(**changes):
        model = {"type": "SeededToyModel"}
        return build(toy_config(tmp_path, model=model, randomness={"seed": None}, **changes))

    first = runner(train_cfg__max_epochs=1)
    first.train()
    second = runner(train_cfg__max_epochs=2, resume=True)
    assert second.model.seed != first.seed
    second.train()
    assert second.model.seed == first.model.seed == first.seed
