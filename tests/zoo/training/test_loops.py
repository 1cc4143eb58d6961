"""Training loops: epochs, iterations, evaluations, boundaries between steps, seeds."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from attnzoo.zoo.registry import HOOKS
from support.training_toy import build, toy_config


@HOOKS.register_module()
class NoteHook(Hook):
    """Records what happens."""

    def __init__(self):
        self.notes = []

    def before_train_iter(self, runner, batch_idx, data_batch: Any = None):
        self.notes.append((runner.epoch, batch_idx, tuple(data_batch["index"].tolist())))

    def at_step_boundary(self, runner):
        self.notes.append("step")

    def at_epoch_boundary(self, runner):
        self.notes.append("epoch")

    def after_val_epoch(self, runner, metrics=None):
        self.notes.append(f"val {runner.iter}")


def noted(config):
    config["custom_hooks"].append({"type": "NoteHook"})
    runner = build(config)
    runner.train()
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, NoteHook)]
    return runner, hook.notes


def evaluated(notes):
    return [int(note.split()[1]) for note in notes if isinstance(note, str) and note.startswith("val")]


def test_epochs(tmp_path):
    runner, notes = noted(toy_config(tmp_path, train_cfg__val_interval=2, train_cfg__max_epochs=3))
    assert (runner.epoch, runner.iter) == (3, 15)
    assert evaluated(notes) == [10, 15]
    assert notes.count("epoch") == 3
    assert notes.count("step") == 3 * 4
    orders = [note[2] for note in notes if isinstance(note, tuple)]
    assert orders[:5] != orders[5:10]


def test_val_begin(tmp_path):
    _, notes = noted(toy_config(tmp_path, train_cfg__val_begin=2))
    assert evaluated(notes) == [10, 15]


def test_iterations(tmp_path):
    train_cfg = {"type": "IterTrainLoop", "max_iters": 12, "val_interval": 4}
    runner, notes = noted(toy_config(tmp_path, train_cfg=train_cfg))
    assert (runner.epoch, runner.iter) == (2, 12)
    assert evaluated(notes) == [4, 8, 12]
    assert notes[-2:] == ["epoch", "val 12"]
    assert (tmp_path / "iter_12.pth").exists()


def test_iterations_with_accumulation_evaluate_between_steps(tmp_path):
    train_cfg = {"type": "IterTrainLoop", "max_iters": 11, "val_interval": 4}
    changes = {"optim_wrapper__accumulative_counts": 3, "train_cfg": train_cfg}
    _, notes = noted(toy_config(tmp_path, **changes))
    # An epoch of five batches has windows of 3 and 2; iteration 11 is a window by itself.
    assert evaluated(notes) == [5, 8, 11]


def test_hooks_can_end_training(tmp_path):
    stop = {"type": "EarlyStoppingHook", "monitor": "count", "patience": 1, "rule": "greater"}
    config = toy_config(tmp_path, train_cfg__max_epochs=9)
    config["custom_hooks"].append(stop)
    runner, _ = noted(config)
    assert runner.epoch == 2
    assert (tmp_path / "epoch_2.pth").exists()


@HOOKS.register_module()
class DisturbHook(Hook):
    """Uses torch's generator before every step, as any tool might."""

    def before_train_iter(self, runner, batch_idx, data_batch: Any = None):
        torch.rand(runner.iter + 1)


def test_dropout_draws_from_the_step_alone(tmp_path):
    plain, disturbed = toy_config(tmp_path / "a"), toy_config(tmp_path / "b")
    disturbed["custom_hooks"].append({"type": "DisturbHook"})
    weights = []
    for config in (plain, disturbed):
        runner = build(config)
        runner.train()
        weights.append(runner.model.fc1.weight)
    assert torch.equal(*weights)


def test_workers_end_with_training(tmp_path):
    loader = {"train_dataloader__num_workers": 2, "train_dataloader__persistent_workers": True}
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1, **loader))
    runner.train()
    assert multiprocessing.active_children() == []


def test_training_needs_a_batch(tmp_path):
    with pytest.raises(ValueError, match="3 training samples per process, less than one batch"):
        build(toy_config(tmp_path, train_dataloader__dataset__length=3)).train()


@pytest.mark.parametrize("cfg", [{"max_epochs": 0}, {"max_epochs": 1, "val_interval": 0}])
def test_wrong_lengths(tmp_path, cfg):
    with pytest.raises(ValueError, match=r"must be .*>= 1, got 0"):
        build(toy_config(tmp_path, train_cfg={"type": "EpochTrainLoop", **cfg})).train()
