"""Training that is killed and resumed equals uninterrupted training bit for bit."""

from __future__ import annotations

import signal

import pytest

from attnzoo.zoo.training import CheckpointError, read_scalars, read_training_checkpoint
from attnzoo.zoo.work_dir import find_latest
from support.slow import slow_except
from support.training_toy import build, run_in_child, same, toy_config


def train(config):
    runner = build(config)
    runner.train()
    return runner


def final_state(work_dir):
    path, state, skipped = find_latest(work_dir)
    assert path is not None
    assert not skipped
    return state


def changed(work_dir, kill_at=None, resume=False, **changes):
    """Returns a config that saves every second iteration and may kill its own process."""
    config = toy_config(work_dir, resume=resume, model__careless=True, **changes)
    config["default_hooks"]["checkpoint"].update(interval=2, by_epoch=False, max_keep_ckpts=2)
    if kill_at is not None:
        config["custom_hooks"].append({"type": "FaultHook", "at": kill_at, "what": "kill"})
    return config


LOADERS = {
    "no workers": {},
    "two workers": {"train_dataloader__num_workers": 2},
    "persistent workers": {"train_dataloader__num_workers": 2, "train_dataloader__persistent_workers": True},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(changed(folder))
    return folder


@pytest.mark.parametrize("loader", LOADERS)
def test_killed_and_resumed_is_bit_equal(tmp_path, uninterrupted, loader):
    # Killed in the middle of epoch 2 (of 5 batches), and again in epoch 3; saved at 2, 4, 5 (end), 6, 8, ...
    for kill_at, resume in ((8, False), (13, True)):
        child = run_in_child(lambda k=kill_at, r=resume: train(changed(tmp_path, k, r, **LOADERS[loader])))
        assert child.wait() == -signal.SIGKILL
    _, state, _ = find_latest(tmp_path)
    assert state["meta"]["iter"] == 12
    assert state["meta"]["step_in_epoch"] == 2
    train(changed(tmp_path, resume=True, **LOADERS[loader]))

    ours, theirs = final_state(tmp_path), final_state(uninterrupted)
    assert ours["meta"]["iter"] == 15
    del ours["meta"]["time"], theirs["meta"]["time"]
    assert not same(ours, theirs)
    assert ours["ema_state_dict"].keys() == ours["state_dict"].keys()
    assert len(ours["random_states"]) == 1
    assert not same(read_scalars(tmp_path), read_scalars(uninterrupted))
    assert len(read_scalars(tmp_path)) == 15 + 3


def test_another_seed_gives_another_result(tmp_path, uninterrupted):
    # Otherwise the comparison above would prove nothing.
    train(changed(tmp_path, randomness__seed=4))
    differing = same(final_state(tmp_path), final_state(uninterrupted))
    assert any("fc1.weight" in place for place in differing)
    assert any("random_states" in place for place in differing)


ITERATIONS = {"type": "IterTrainLoop", "max_iters": 13, "val_interval": 4}
VARIANTS = {
    "accumulation": {"optim_wrapper__accumulative_counts": 2},
    "bfloat16": {"optim_wrapper__type": "AmpOptimWrapper"},
    "iterations": {"train_cfg": ITERATIONS},
    "mmengine schedule": {"param_scheduler": [{"type": "CosineAnnealingLR", "T_max": 15, "by_epoch": False}]},
    "SGD": {"optim_wrapper__optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}},
    "LAMB": {"optim_wrapper__optimizer": {"type": "LAMB", "lr": 0.01, "weight_decay": 0.1}},
    "aspect ratios": {"train_dataloader__batch_sampler": {"type": "AspectRatioBatchSampler"}},
    "endless": {"train_cfg": ITERATIONS, "train_dataloader__sampler": {"type": "InfiniteSampler", "length": 28}},
    "endless aspect ratios": {
        "train_cfg": ITERATIONS,
        "train_dataloader__sampler": {"type": "InfiniteSampler", "length": 24},
        "train_dataloader__batch_sampler": {"type": "AspectRatioBatchSampler"},
    },
}


@pytest.mark.parametrize("variant", slow_except(VARIANTS, ["accumulation", "bfloat16", "endless aspect ratios"]))
def test_variants_resume_bit_equal(tmp_path, variant):
    changes = VARIANTS[variant]
    train(changed(tmp_path / "uninterrupted", **changes))
    assert run_in_child(lambda: train(changed(tmp_path / "resumed", 9, **changes))).wait() == -signal.SIGKILL
    train(changed(tmp_path / "resumed", resume=True, **changes))
    ours, theirs = final_state(tmp_path / "resumed"), final_state(tmp_path / "uninterrupted")
    del ours["meta"]["time"], theirs["meta"]["time"]
    assert not same(ours, theirs)
    assert not same(read_scalars(tmp_path / "resumed"), read_scalars(tmp_path / "uninterrupted"))


def test_an_evaluation_that_was_killed_is_repeated(tmp_path, uninterrupted):
    config = changed(tmp_path)
    config["custom_hooks"].append({"type": "FaultHook", "at": 10, "what": "kill", "during_validation": True})
    assert run_in_child(lambda: train(config)).wait() == -signal.SIGKILL
    _, state, _ = find_latest(tmp_path)
    assert state["meta"]["validation_pending"]
    train(changed(tmp_path, resume=True))
    assert not same(read_scalars(tmp_path), read_scalars(uninterrupted))


def test_resume_from_a_path_and_with_more_epochs(tmp_path):
    train(toy_config(tmp_path / "a", train_cfg__max_epochs=1))
    saved = tmp_path / "a" / "epoch_1.pth"
    runner = train(toy_config(tmp_path / "b", train_cfg__max_epochs=2, resume=str(saved)))
    assert runner.iter == 10
    # The schedule follows the new length; it was at its end.
    rates = [record["lr"] for record in read_scalars(tmp_path / "b") if record["mode"] == "train"]
    assert rates[0] < 1e-2 < rates[1]


def test_going_back_sets_later_checkpoints_aside(tmp_path):
    train(toy_config(tmp_path))
    train(toy_config(tmp_path, resume=str(tmp_path / "epoch_1.pth"), train_cfg__max_epochs=2))
    assert sorted(path.name for path in tmp_path.glob("epoch_*")) == ["epoch_1.pth", "epoch_2.pth"]
    (aside,) = tmp_path.glob("earlier_*")
    assert {"epoch_2.pth", "epoch_3.pth"} <= {path.name for path in aside.iterdir()}
    assert [record["iter"] for record in read_scalars(tmp_path) if record["mode"] == "train"] == list(range(1, 11))


def test_resume_falls_back_to_the_newest_intact_checkpoint(tmp_path, monkeypatch):
    train(toy_config(tmp_path, default_hooks__checkpoint={"type": "CheckpointHook"}))
    (tmp_path / "epoch_3.pth").write_bytes((tmp_path / "epoch_3.pth").read_bytes()[:5000])
    damaged = bytearray((tmp_path / "epoch_2.pth").read_bytes())
    where = damaged.find(
        read_training_checkpoint(tmp_path / "epoch_2.pth")["state_dict"]["fc1.weight"].numpy().tobytes()
    )
    assert where > 0
    damaged[where] ^= 1
    (tmp_path / "epoch_2.pth").write_bytes(damaged)
    runner = build(toy_config(tmp_path, resume=True, train_cfg__max_epochs=1))
    warnings = []
    monkeypatch.setattr(runner.logger, "warning", warnings.append)
    runner.train()
    assert runner.iter == 5
    assert any("epoch_3.pth" in message for message in warnings)
    assert any("epoch_2.pth is damaged" in message for message in warnings)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    train(toy_config(tmp_path, train_cfg__max_epochs=1))
    for changes, message in (
        ({"train_dataloader__batch_size": 5}, "batch_size"),
        ({"train_dataloader__dataset__length": 40}, "epoch_length"),
        ({"model__norm": False}, "does not fit this config"),
        ({"param_scheduler": []}, "schedules"),
    ):
        with pytest.raises(ValueError, match=message):
            train(toy_config(tmp_path, resume=True, train_cfg__max_epochs=2, **changes))
    with pytest.raises(CheckpointError, match="no such file"):
        train(toy_config(tmp_path, resume=str(tmp_path / "none.pth")))


def test_without_checkpoints_training_starts_from_scratch_and_with_damaged_ones_it_fails(tmp_path):
    assert train(toy_config(tmp_path / "a", resume=True, train_cfg__max_epochs=1)).iter == 5
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "epoch_1.pth").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="None of the 1"):
        train(toy_config(tmp_path / "b", resume=True))


def test_an_earlier_training_is_set_aside_not_mixed_with(tmp_path):
    train(toy_config(tmp_path, train_cfg__max_epochs=2))
    train(toy_config(tmp_path, train_cfg__max_epochs=1))
    assert not (tmp_path / "epoch_2.pth").exists()
    (aside,) = tmp_path.glob("earlier_*")
    assert (aside / "epoch_2.pth").exists()
    assert [record["iter"] for record in read_scalars(tmp_path)] == [1, 2, 3, 4, 5, 5]


def test_a_seed_that_the_config_leaves_open_is_resumed(tmp_path):
    first = train(toy_config(tmp_path, randomness={"seed": None}, train_cfg__max_epochs=1))
    second = train(toy_config(tmp_path, randomness={"seed": None}, train_cfg__max_epochs=2, resume=True))
    assert second.seed == first.seed
    assert vars(second.train_dataloader.sampler)["seed"] == first.seed
