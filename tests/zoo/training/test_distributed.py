"""Two gloo processes on a CPU train like one process with twice the batch size, and agree on all decisions."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from attnzoo.zoo.registry import HOOKS
from attnzoo.zoo.training import EXIT_PREEMPTED, read_scalars, read_training_checkpoint
from attnzoo.zoo.training.distributed import init_distributed
from attnzoo.zoo.training.model_setup import unwrap_model
from support.training_toy import build, run_ranks, same, toy_config

# An infinite label-weighted image in one process only: sample 5 of epoch 1.
NONFINITE = [(1, 5)]


def config_of(work_dir, ranks, **changes):
    """Returns a config without layers that depend on the composition of a batch: dropout, BatchNorm."""
    config = toy_config(
        work_dir, launcher="pytorch" if ranks > 1 else "none", model__dropout=0.0, model__norm=False, **changes
    )
    config["model"]["dtype"] = "float64"
    config["train_dataloader"]["batch_size"] = 8 // ranks
    config["train_dataloader"]["dataset"]["length"] = 40
    return config


def train(config):
    build(config).train()


def saved(work_dir, name="epoch_3.pth"):
    return read_training_checkpoint(work_dir / name)


@pytest.mark.parametrize("changes", [{}, {"optim_wrapper__accumulative_counts": 2}], ids=["plain", "accumulation"])
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path, changes):
    one, two = tmp_path / "one", tmp_path / "two"
    spoilt = {"train_dataloader__dataset__nonfinite": NONFINITE}
    train(config_of(one, 1, **spoilt, **changes))
    assert run_ranks(lambda rank: train(config_of(two, 2, **spoilt, **changes))) == [0, 0]

    ours, theirs = saved(two), saved(one)
    for part in ("state_dict", "ema_state_dict"):
        for name, tensor in theirs[part].items():
            torch.testing.assert_close(ours[part][name], tensor, rtol=1e-9, atol=1e-11)
    # Each of the 13 validation images counts once, over two processes.
    values = [[(r["iter"], r["top1"], r["count"]) for r in read_scalars(d) if r["mode"] == "val"] for d in (one, two)]
    assert values[0] == values[1]
    assert values[0][0][2] == 13.0
    # The batch of one process was infinite; both skipped the step, and the record has the ids of both.
    records = [json.loads((folder / "nonfinite_batches.json").read_text()) for folder in (one, two)]
    assert [record["iteration"] for record in records[1]] == [record["iteration"] for record in records[0]]
    assert len(records[1]) == 1
    ids = [sorted(i for rank in r[0]["batches"].values() for b in rank for i in b["index"]) for r in records]
    assert ids[0] == ids[1]
    assert set(records[1][0]["batches"]) == {"0", "1"}
    assert len(ours["random_states"]) == 2


def test_a_signal_to_one_process_stops_both_and_they_resume_bit_equal(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def config(folder, rank, stop=False, resume=False):
        made = config_of(folder, 2, resume=resume)
        made["model"].update(dropout=0.3, norm=True)
        if stop and rank == 1:
            made["custom_hooks"].append({"type": "FaultHook", "at": 7, "what": "term"})
        return made

    assert run_ranks(lambda rank: train(config(whole, rank))) == [0, 0]
    assert run_ranks(lambda rank: train(config(parts, rank, stop=True))) == [EXIT_PREEMPTED] * 2
    assert (parts / "iter_8.pth").exists()
    assert run_ranks(lambda rank: train(config(parts, rank, resume=True))) == [0, 0]
    ours, theirs = saved(parts), saved(whole)
    del ours["meta"]["time"], theirs["meta"]["time"]
    assert not same(ours, theirs)


@HOOKS.register_module()
class StatisticsHook(Hook):
    """Writes BatchNorm's running mean in an evaluation, and after the step before it."""

    def _write(self, runner, when):
        model: Any = unwrap_model(runner.model)
        torch.save(model.norm.running_mean, f"{runner.work_dir}/{when}_{runner.rank}.pt")

    def after_train_epoch(self, runner):
        self._write(runner, "trained")

    def before_val_iter(self, runner, batch_idx, data_batch: Any = None):
        self._write(runner, "evaluated")


def test_processes_evaluate_with_the_same_running_statistics(tmp_path):
    config = config_of(tmp_path, 2, train_cfg__max_epochs=1, custom_hooks=[{"type": "StatisticsHook"}])
    config["model"]["norm"] = True
    assert run_ranks(lambda rank: train(config)) == [0, 0]
    trained, evaluated = (
        [torch.load(tmp_path / f"{when}_{rank}.pt", weights_only=True) for rank in (0, 1)]
        for when in ("trained", "evaluated")
    )
    assert not torch.equal(*trained)
    assert torch.equal(*evaluated)
    assert torch.equal(evaluated[0], trained[0])


def test_a_full_disk_ends_all_processes(tmp_path):
    (tmp_path / "run").mkdir()

    def fail(rank):
        from attnzoo.zoo.training import checkpoint_hook

        def no_space(state, path):
            raise checkpoint_hook.CheckpointWriteError("no space left")

        checkpoint_hook.write_checkpoint = no_space
        try:
            train(config_of(tmp_path / "run", 2))
        except checkpoint_hook.CheckpointWriteError:
            raise SystemExit(9) from None  # not because the connection broke

    assert run_ranks(fail) == [9, 9]


def test_resuming_with_another_number_of_processes_is_refused(tmp_path):
    assert run_ranks(lambda rank: train(config_of(tmp_path, 2, train_cfg__max_epochs=1))) == [0, 0]
    with pytest.raises(ValueError, match=r"world_size=2.* but this one has world_size=1"):
        train(config_of(tmp_path, 1, resume=True))


def test_what_launchers_must_set_is_checked(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="Did you mean 'pytorch'"):
        init_distributed("torch")
    with pytest.raises(ValueError, match=r"RANK.*torchrun"):
        init_distributed("pytorch")
    with pytest.raises(ValueError, match=r"SLURM_PROCID.*srun"):
        init_distributed("slurm")
    with pytest.raises(ValueError, match=r"'glo'\. Did you mean 'gloo'"):
        init_distributed("pytorch", backend="glo")


def test_slurm_variables_become_torchs(monkeypatch):
    slurm = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "SLURM_NODELIST": "n[1-2]"}
    for name, value in {**slurm, "MASTER_ADDR": "n1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    init_distributed("slurm", port=1234)
    found = {name: os.environ.pop(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
    assert found == {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_PORT": "1234"}
