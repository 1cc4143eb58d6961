"""Epochs, iterations, evaluation, seeds of steps, and what a run tells."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from attnzoo.zoo.registry import DATASETS, HOOKS
from attnzoo.zoo.training import build_runner, read_scalars
from attnzoo.zoo.training.checkpoint import to_plain
from attnzoo.zoo.training.state import random_states, restore_random_states, seed_step
from support.training_toy import ToyDataset, build, toy_config


@HOOKS.register_module()
class NoteHook(Hook):
    """Notes what happens."""

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
    # Windows of an epoch of five: 3 and 2; iteration 11 is a window of its own.
    assert evaluated(notes) == [5, 8, 11]


def test_hooks_can_end_training(tmp_path):
    stop = {"type": "EarlyStoppingHook", "monitor": "count", "patience": 1, "rule": "greater"}
    config = toy_config(tmp_path, train_cfg__max_epochs=9)
    config["custom_hooks"].append(stop)
    runner, _ = noted(config)
    assert runner.epoch == 2
    assert (tmp_path / "epoch_2.pth").exists()


def test_steps_have_seeds_of_their_own():
    draws = []
    for numbers in ((0, 1, 0), (0, 1, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1)):
        seed_step(*numbers)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


@HOOKS.register_module()
class DisturbHook(Hook):
    """Draws from torch's generator before every step, as an innocent tool might."""

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


def test_the_global_generators_are_resumed():
    random.gauss(0, 1)
    states = torch_round_trip(random_states())
    draws = [(random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist()) for _ in range(2)]  # noqa: NPY002
    restore_random_states(states)
    assert draws[0] == (random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist())  # noqa: NPY002


def torch_round_trip(value):
    file = io.BytesIO()
    torch.save(to_plain(value), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@DATASETS.register_module()
class CarelessDataset(ToyDataset):
    """Also draws from its worker's generators."""

    def __getitem__(self, key):
        draws = (random.random(), float(np.random.rand()), torch.rand(1).item())  # noqa: NPY002
        return {**super().__getitem__(key), "draws": torch.tensor(draws, dtype=torch.float64)}


@HOOKS.register_module()
class DrawsHook(Hook):
    """Notes what the data set drew."""

    def __init__(self):
        self.draws = []

    def before_train_iter(self, runner, batch_idx, data_batch: Any = None):
        self.draws.append(data_batch["draws"].tolist())


def test_workers_draw_anew_every_epoch_and_the_same_in_every_run(tmp_path):
    def draws():
        loader = {"train_dataloader__num_workers": 2, "train_dataloader__dataset": {"type": "CarelessDataset"}}
        config = toy_config(tmp_path, train_cfg__max_epochs=2, **loader)
        config["custom_hooks"].append({"type": "DrawsHook"})
        runner = build(config)
        runner.train()
        (hook,) = [hook for hook in runner.hooks if isinstance(hook, DrawsHook)]
        return hook.draws

    found = draws()
    every = [value for batch in found for sample in batch for value in sample]
    assert len(set(every)) == len(every)
    assert found == draws()


def test_workers_end_with_training(tmp_path):
    loader = {"train_dataloader__num_workers": 2, "train_dataloader__persistent_workers": True}
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1, **loader))
    runner.train()
    assert multiprocessing.active_children() == []


def test_training_needs_a_batch(tmp_path):
    with pytest.raises(ValueError, match="gives a process 3 samples, less than one batch"):
        build(toy_config(tmp_path, train_dataloader__dataset__length=3)).train()


@pytest.mark.parametrize("cfg", [{"max_epochs": 0}, {"max_epochs": 1, "val_interval": 0}])
def test_wrong_lengths(tmp_path, cfg):
    with pytest.raises(ValueError, match="from 1 on"):
        build(toy_config(tmp_path, train_cfg={"type": "EpochTrainLoop", **cfg})).train()


def test_configs_without_what_is_needed(tmp_path):
    with pytest.raises(ValueError, match="needs the key 'work_dir'"):
        build_runner({"model": {}})
    with pytest.raises(ValueError, match="has no training"):
        build({"model": {"type": "ToyModel"}, "work_dir": str(tmp_path)}).train()
    with pytest.raises(ValueError, match="needs the key 'sampler'"):
        build(toy_config(tmp_path, train_dataloader={"batch_size": 2, "dataset": {"type": "ToyDataset"}})).train()


def test_the_seed_reaches_data_and_sampler_unless_they_have_one(tmp_path):
    runner = build(toy_config(tmp_path, randomness__seed=9))
    assert (runner.train_dataloader.dataset.seed, runner.train_dataloader.sampler.seed) == (9, 9)
    runner = build(toy_config(tmp_path, randomness__seed=9, train_dataloader__dataset__seed=4))
    assert (runner.train_dataloader.dataset.seed, runner.train_dataloader.sampler.seed) == (4, 9)


def test_test_loop_and_weights_to_start_from(tmp_path):
    build(toy_config(tmp_path / "a", train_cfg__max_epochs=1)).train()
    config = toy_config(tmp_path / "b", load_from=str(tmp_path / "a" / "epoch_1.pth"))
    for part in ("dataloader", "evaluator", "cfg"):
        config[f"test_{part}"] = config[f"val_{part}"]
    config["test_cfg"] = {"type": "TestLoop", "amp_dtype": "bfloat16"}
    runner = build(config)
    assert runner.test() == runner.last_metrics
    assert runner.last_metrics["count"] == 13.0
    saved = torch.load(tmp_path / "a" / "epoch_1.pth", weights_only=True)
    assert torch.equal(runner.model.fc1.weight, saved["ema_state_dict"]["fc1.weight"])
    runner.load_checkpoint(str(tmp_path / "a" / "epoch_1.pth"), use_ema=False)
    assert torch.equal(runner.model.fc1.weight, saved["state_dict"]["fc1.weight"])
    assert not (tmp_path / "b" / "config.py").exists()
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        build({**config, "test_cfg": {"type": "TestLoop", "amp_dtype": "bfloat"}}).test()


def test_log_lines_scalars_and_tensorboard(tmp_path):
    config = toy_config(tmp_path, log_level="INFO", train_cfg__max_epochs=2)
    config["default_hooks"]["logger"] = {"interval": 2}
    build(config).train()
    (log,) = tmp_path.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "Epoch(train)" in line]
    # Every second iteration, and the last of an epoch.
    assert len(lines) == 2 * 3
    assert all(word in lines[0] for word in ("lr:", "eta:", "time:", "data_time:", "loss:", "grad_norm:"))
    records = read_scalars(tmp_path)
    assert [(record["mode"], record["iter"]) for record in records][:4] == [
        ("train", 2),
        ("train", 4),
        ("train", 5),
        ("val", 5),
    ]
    assert {"lr", "loss", "grad_norm", "time", "data_time"} <= records[0].keys()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"val/top1" in events.read_bytes()


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    (tmp_path / "scalars.jsonl").write_text(json.dumps({"mode": "train", "iter": 1}) + '\n{"mode": "tr')
    assert read_scalars(tmp_path) == [{"mode": "train", "iter": 1}]


def test_history_is_bounded(tmp_path, monkeypatch):
    from attnzoo.zoo.training import logs

    monkeypatch.setattr(logs, "HISTORY_LENGTH", 4)
    runner = build(toy_config(tmp_path))
    runner.train()
    assert len(runner.message_hub.get_scalar("train/loss").data[0]) <= 5


def test_a_progress_bar_on_a_terminal_and_lines_above_it(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1, log_level="INFO"))
    shown = io.StringIO()
    for handler in runner.logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(shown)
    runner.train()
    assert "Epoch 1/1" in terminal.getvalue()
    assert "Evaluation" in terminal.getvalue()
    assert "Epoch(train)" in shown.getvalue()


def test_two_runs_in_a_process_share_nothing(tmp_path):
    first, second = build(toy_config(tmp_path / "a")), build(toy_config(tmp_path / "b"))
    assert first.message_hub is not second.message_hub
    first.train()
    assert "train/loss" not in second.message_hub.log_scalars
