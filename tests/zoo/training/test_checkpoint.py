"""Checkpoint files survive full disks, kills and damage, and hold nothing that runs."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import resource
import signal

import numpy as np
import pytest
import torch

from attnzoo.zoo.files import remove_leftovers
from attnzoo.zoo.training import CheckpointWriteError, write_checkpoint
from attnzoo.zoo.training import checkpoint as checkpoint_module
from attnzoo.zoo.training.checkpoint import to_plain
from attnzoo.zoo.training.checkpoint_hook import CheckpointHook, infer_rule
from attnzoo.zoo.work_dir import find_latest, read_training_checkpoint
from support.training_toy import build, run_in_child, same, toy_config


def state(iteration=1, size=10):
    return {"meta": {"iter": iteration}, "state_dict": {"weight": torch.arange(size, dtype=torch.float32)}}


@pytest.fixture
def full_disk():
    """A context in which no file may grow over 20 kB."""

    class Limit:
        def __enter__(self):
            self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
            # Python ignores SIGXFSZ, so that writing fails as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, self.before[1]))

        def __exit__(self, *exc_info):
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)

    return Limit()


def test_round_trip_and_plain_types(tmp_path):
    given = {
        **state(),
        "numpy": {"scalar": np.float64(2.5), "array": np.arange(3), "flag": np.bool_(True)},
        "ordered": collections.OrderedDict(a=(1, 2.0, None, b"x")),
    }
    write_checkpoint(given, tmp_path / "epoch_1.pth")
    # Any reader that refuses to run things takes it, and it names no class but torch's and plain ones.
    plain = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    assert not same(plain, read_training_checkpoint(tmp_path / "epoch_1.pth"))
    assert type(plain["ordered"]) is dict
    assert plain["numpy"]["scalar"] == 2.5
    assert plain["numpy"]["flag"] is True
    assert plain["numpy"]["array"].tolist() == [0, 1, 2]
    assert plain["ordered"]["a"] == (1, 2.0, None, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]


def test_what_is_not_plain_is_named():
    with pytest.raises(TypeError, match=r"not a set at state\.hooks\.mine\[1\]"):
        to_plain({"hooks": {"mine": [1, {2}]}})
    with pytest.raises(TypeError, match="keys are str or int"):
        to_plain({(1, 2): 3})


def test_a_view_does_not_take_its_storage_along(tmp_path):
    write_checkpoint({**state(), "view": torch.zeros(1_000_000)[:2]}, tmp_path / "epoch_1.pth")
    assert (tmp_path / "epoch_1.pth").stat().st_size < 10_000


def test_full_disk_leaves_the_old_file(tmp_path, full_disk):
    path = tmp_path / "best_top1.pth"
    write_checkpoint(state(1), path)
    with full_disk, pytest.raises(CheckpointWriteError, match=r"best_top1\.pth"):
        write_checkpoint(state(2, size=100_000), path)
    assert read_training_checkpoint(path)["meta"]["iter"] == 1
    assert [found.name for found in tmp_path.iterdir()] == ["best_top1.pth"]


def test_full_disk_in_training_stops_with_the_last_good_checkpoint(tmp_path, full_disk):
    config = toy_config(tmp_path, default_hooks__checkpoint={"type": "CheckpointHook", "max_keep_ckpts": 1})
    runner = build(config)
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    save = hook.save

    def save_on_full_disk(runner):
        if runner.epoch < 2:
            return save(runner)
        with full_disk:
            return save(runner)

    hook.save = save_on_full_disk
    with pytest.raises(CheckpointWriteError, match=r"last good checkpoint is .*epoch_1\.pth"):
        runner.train()
    assert (tmp_path / "last_checkpoint").read_text() == "epoch_1.pth\n"
    resumed = build({**config, "resume": True})
    resumed.train()
    assert resumed.iter == 15


@pytest.mark.parametrize("moment", ["torch.save", "os.fsync", "os.replace"])
def test_kill_while_writing_leaves_the_old_file(tmp_path, moment, monkeypatch):
    path = tmp_path / "epoch_1.pth"
    write_checkpoint(state(1), path)
    owner, name = {"torch.save": (torch, "save"), "os.fsync": (os, "fsync"), "os.replace": (os, "replace")}[moment]
    real = getattr(owner, name)

    def die(*args):
        if moment == "torch.save":
            args[1].write(b"half a checkpoint")
            args[1].flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def child():
        setattr(owner, name, die)
        write_checkpoint(state(2), path)

    assert run_in_child(child).wait() == -signal.SIGKILL
    assert getattr(owner, name) is real
    assert find_latest(tmp_path)[1]["meta"]["iter"] == 1
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["epoch_1.pth"]


def test_what_reads_back_wrong_never_takes_the_name(tmp_path, monkeypatch):
    path = tmp_path / "epoch_1.pth"
    write_checkpoint(state(1), path)
    real = torch.save

    def save_damaged(value, file):
        real(value, file)
        file.flush()
        where = pathlib.Path(file.name).read_bytes().find(value["state_dict"]["weight"].numpy().tobytes())
        assert where > 0
        file.seek(where)
        file.write(b"\xff")

    monkeypatch.setattr(checkpoint_module.torch, "save", save_damaged)
    with pytest.raises(CheckpointWriteError, match="does not match its checksum"):
        write_checkpoint(state(2), path)
    assert read_training_checkpoint(path)["meta"]["iter"] == 1


def test_training_checkpoints_carry_no_config(tmp_path):
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1))
    runner.train()
    assert "ToyModel" in (tmp_path / "config.py").read_text()
    assert b"ToyModel" not in (tmp_path / "epoch_1.pth").read_bytes()


def test_keeps_the_newest_and_the_best(tmp_path):
    checkpoint = {"type": "CheckpointHook", "max_keep_ckpts": 2, "save_best": "top1"}
    runner = build(toy_config(tmp_path, default_hooks__checkpoint=checkpoint, train_cfg__max_epochs=4))
    values = iter([50.0, 70.0, float("nan"), 60.0])
    runner.val_loop.evaluator.evaluate = lambda size: {"top1": next(values)}
    runner.train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["best_top1.pth", "epoch_3.pth", "epoch_4.pth"]
    assert runner.results()["best"]["top1"] == {"value": 70.0, "epoch": 2, "iter": 10, "file": "best_top1.pth"}
    assert read_training_checkpoint(tmp_path / "best_top1.pth")["meta"]["epoch"] == 2
    assert json.dumps(runner.results())


def test_less_can_be_better_and_is_inferred(tmp_path):
    hook = {"type": "CheckpointHook", "save_best": ["val_loss", "score"], "rule": [None, "less"]}
    runner = build(toy_config(tmp_path, default_hooks__checkpoint=hook, train_cfg__max_epochs=2))
    values = iter([1.0, 2.0])
    runner.val_loop.evaluator.evaluate = lambda size: {"val_loss": (value := next(values)), "score": -value}
    runner.train()
    best = runner.results()["best"]
    assert (best["val_loss"]["epoch"], best["score"]["epoch"]) == (1, 2)
    assert infer_rule("coco/bbox_mAP") == infer_rule("top5") == "greater"
    with pytest.raises(ValueError, match="rule="):
        infer_rule("score")


def test_a_wrong_metric_names_the_right_one(tmp_path):
    config = toy_config(tmp_path, train_cfg__max_epochs=1)
    config["default_hooks"]["checkpoint"]["save_best"] = "top_1"
    with pytest.raises(ValueError, match="Did you mean 'top1'"):
        build(config).train()


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"max_keep_ckpts": 0}, {"save_best": "top1", "rule": "more"}])
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="CheckpointHook"):
        CheckpointHook(**arguments)
