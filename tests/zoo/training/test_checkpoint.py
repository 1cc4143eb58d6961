"""Checkpoint files survive full disks, kills and damage, and contain plain types only."""

from __future__ import annotations

import collections
import errno
import os
import pathlib
import signal

import numpy as np
import pytest
import torch

from attnzoo.zoo.files import remove_leftovers
from attnzoo.zoo.training import CheckpointWriteError, write_checkpoint
from attnzoo.zoo.training import checkpoint as checkpoint_module
from attnzoo.zoo.training.checkpoint import to_plain
from attnzoo.zoo.work_dir import find_latest, read_training_checkpoint
from support.full_disk import full_disk
from support.training_toy import build, run_in_child, same, toy_config


def state(iteration=1, size=10):
    return {"meta": {"iter": iteration}, "state_dict": {"weight": torch.arange(size, dtype=torch.float32)}}


def test_round_trip_and_plain_types(tmp_path):
    given = {
        **state(),
        "numpy": {"scalar": np.float64(2.5), "array": np.arange(3), "flag": np.bool_(True)},
        "ordered": collections.OrderedDict(a=(1, 2.0, None, b"x")),
    }
    write_checkpoint(given, tmp_path / "epoch_1.pth")
    # A reader that refuses to run code accepts it: it names no classes but those of torch and plain types.
    plain = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    assert not same(plain, read_training_checkpoint(tmp_path / "epoch_1.pth"))
    assert type(plain["ordered"]) is dict
    assert plain["numpy"]["scalar"] == 2.5
    assert plain["numpy"]["flag"] is True
    assert plain["numpy"]["array"].tolist() == [0, 1, 2]
    assert plain["ordered"]["a"] == (1, 2.0, None, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]


def test_other_types_are_named_with_their_place():
    with pytest.raises(TypeError, match=r"got a set at state\.hooks\.mine\[1\]"):
        to_plain({"hooks": {"mine": [1, {2}]}})
    with pytest.raises(TypeError, match="Keys in a checkpoint must be str or int"):
        to_plain({(1, 2): 3})


def test_a_view_is_saved_without_its_storage(tmp_path):
    write_checkpoint({**state(), "view": torch.zeros(1_000_000)[:2]}, tmp_path / "epoch_1.pth")
    assert (tmp_path / "epoch_1.pth").stat().st_size < 10_000


def test_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "best_top1.pth"
    write_checkpoint(state(1), path)
    with full_disk(), pytest.raises(CheckpointWriteError, match=r"best_top1\.pth"):
        write_checkpoint(state(2, size=100_000), path)
    assert read_training_checkpoint(path)["meta"]["iter"] == 1
    assert [found.name for found in tmp_path.iterdir()] == ["best_top1.pth"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (MemoryError(), "out of memory"),
    ],
    ids=["EMFILE", "ESTALE", "EROFS", "memory"],
)
def test_other_faults_leave_the_old_file_and_are_named(tmp_path, monkeypatch, fault, message):
    path = tmp_path / "epoch_1.pth"
    write_checkpoint(state(1), path)

    def fail(*args, **kwargs):
        raise fault

    monkeypatch.setattr(checkpoint_module, "open", fail, raising=False)
    with pytest.raises(CheckpointWriteError, match=rf"Could not write {path}: .*{message}"):
        write_checkpoint(state(2), path)
    assert read_training_checkpoint(path)["meta"]["iter"] == 1


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


def test_a_file_that_fails_verification_is_never_renamed(tmp_path, monkeypatch):
    path = tmp_path / "epoch_1.pth"
    write_checkpoint(state(1), path)
    real = checkpoint_module.save_with_digest

    def save_damaged(value, file):
        real(value, file)
        file.flush()
        where = pathlib.Path(file.name).read_bytes().find(value["state_dict"]["weight"].numpy().tobytes())
        assert where > 0
        file.seek(where)
        file.write(b"\xff")

    monkeypatch.setattr(checkpoint_module, "save_with_digest", save_damaged)
    with pytest.raises(CheckpointWriteError, match="does not match its checksum"):
        write_checkpoint(state(2), path)
    assert read_training_checkpoint(path)["meta"]["iter"] == 1


def test_training_checkpoints_carry_no_config(tmp_path):
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=1))
    runner.train()
    assert "ToyModel" in (tmp_path / "config.py").read_text()
    assert b"ToyModel" not in (tmp_path / "epoch_1.pth").read_bytes()
