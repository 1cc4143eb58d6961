"""Steps with losses or gradients that are not finite are skipped and recorded, and stop training at a limit."""

from __future__ import annotations

import json

import pytest
import torch

from attnzoo.zoo.training import TrainingDiverged, read_scalars, read_training_checkpoint
from support.training_toy import build, same, toy_config

ALWAYS = [(epoch, index) for epoch in range(3) for index in range(22)]


class Spy:
    """Records the weights after every iteration."""

    def __init__(self, runner):
        self.weights, self.averages = [], []
        from mmengine.hooks import Hook

        spy = self

        class SpyHook(Hook):
            priority = "LOWEST"

            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                spy.weights.append(runner.model.fc1.weight.detach().clone())
                spy.averages.append(runner.ema.average.state_dict()["fc1.weight"].clone())

        runner.register_hook(SpyHook())


def skipped_iterations(work_dir):
    return [record["iteration"] for record in json.loads((work_dir / "nonfinite_batches.json").read_text())]


def test_skips_the_step_and_records_the_batch(tmp_path):
    # drop_last omits two samples per epoch: use one that is in both epochs.
    spoilt = ((0, 3), (1, 3))
    runner = build(toy_config(tmp_path, train_dataloader__dataset__nonfinite=spoilt))
    spy = Spy(runner)
    runner.train()
    records = json.loads((tmp_path / "nonfinite_batches.json").read_text())
    assert runner.results()["skipped_steps"] == len(records) > 0
    assert all(bool(torch.isfinite(tensor).all()) for tensor in runner.model.state_dict().values())
    for record in records:
        (batch,) = record["batches"]["0"]
        assert record["what"] == "loss"
        assert batch["loss"] in ("nan", "inf")
        assert (record["epoch"], 3) in spoilt
        assert 3 in batch["index"]
        assert len(batch["index"]) == 4
    for i in range(1, 15):
        still = bool((spy.weights[i] == spy.weights[i - 1]).all())
        assert still == (i in skipped_iterations(tmp_path))
        assert bool((spy.averages[i] == spy.averages[i - 1]).all()) == still
    assert all(record.get("loss", 0.0) is not None for record in read_scalars(tmp_path))


def test_more_than_allowed_stops(tmp_path):
    config = toy_config(tmp_path, train_dataloader__dataset__nonfinite=ALWAYS)
    config["default_hooks"]["guard"] = {"max_skips": 2}
    runner = build(config)
    with pytest.raises(TrainingDiverged, match=r"nonfinite_batches\.json.*max_skips"):
        runner.train()
    assert skipped_iterations(tmp_path) == [0, 1, 2]
    assert not list(tmp_path.glob("*.pth"))


def test_the_count_continues_after_resuming(tmp_path):
    config = toy_config(tmp_path, train_dataloader__dataset__nonfinite=ALWAYS, train_cfg__max_epochs=1)
    config["default_hooks"]["guard"] = {"max_skips": 6}
    config["default_hooks"]["checkpoint"]["save_best"] = None
    build(config).train()
    assert len(read_training_checkpoint(tmp_path / "epoch_1.pth")["hooks"]["NonFiniteGuardHook"]["records"]) == 5
    config["train_cfg"]["max_epochs"] = 2
    with pytest.raises(TrainingDiverged):
        build({**config, "resume": True}).train()
    assert skipped_iterations(tmp_path) == list(range(7))


def test_the_complete_window_of_accumulation_is_skipped(tmp_path):
    config = toy_config(
        tmp_path, optim_wrapper__accumulative_counts=2, train_dataloader__dataset__nonfinite=ALWAYS[:22]
    )
    runner = build(config)
    spy = Spy(runner)
    runner.train()
    # Windows of an epoch of five batches: 2, 2, 1.
    assert skipped_iterations(tmp_path) == [1, 3, 4]
    assert [
        len(record["batches"]["0"]) for record in json.loads((tmp_path / "nonfinite_batches.json").read_text())
    ] == [
        2,
        2,
        1,
    ]
    assert same(spy.weights[4], spy.weights[0]) == []
    assert same(spy.weights[6], spy.weights[0]) != []


def test_gradients_that_are_not_finite_are_skipped_too(tmp_path):
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1))
    spy = Spy(runner)
    calls = []

    def spoil(gradient):
        calls.append(1)
        return gradient * torch.inf if len(calls) == 3 else gradient

    runner.model.fc1.weight.register_hook(spoil)
    runner.train()
    assert skipped_iterations(tmp_path) == [2]
    assert json.loads((tmp_path / "nonfinite_batches.json").read_text())[0]["what"] == "gradient"
    assert same(spy.weights[2], spy.weights[1]) == []
    assert torch.isfinite(runner.model.fc1.weight).all()


def test_the_guard_cannot_be_removed(tmp_path):
    with pytest.raises(ValueError, match="max_skips=0"):
        build(toy_config(tmp_path, default_hooks__guard=None))


def test_a_custom_guard_replaces_the_default_one(tmp_path):
    config = toy_config(tmp_path)
    config["custom_hooks"].append({"type": "NonFiniteGuardHook", "max_skips": 3})
    guards = [hook for hook in build(config).hooks if type(hook).__name__ == "NonFiniteGuardHook"]
    assert [guard.max_skips for guard in guards] == [3]
