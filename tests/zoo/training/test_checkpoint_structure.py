"""A training checkpoint is checked completely before any part of it is used."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from attnzoo.zoo.training import CheckpointError
from attnzoo.zoo.training.checkpoint_structure import check_structure, describe
from attnzoo.zoo.training.state import random_states


@pytest.fixture(scope="module")
def complete():
    return {
        "meta": {
            "epoch": 2,
            "iter": 11,
            "step_in_epoch": 1,
            "validated_at": 10,
            "epoch_length": 5,
            "batch_size": 4,
            "world_size": 1,
            "validation_pending": False,
            "stop_training": False,
            "seed": 3,
            "metrics": {"top1": 50.0},
            "classes": ["cat", "dog"],
        },
        "state_dict": {"weight": torch.zeros(2)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "param_schedulers": [{"last_step": 11}],
        "random_states": [random_states()],
        "hooks": {"CheckpointHook": {}},
        "message_hub": {
            "log_scalars": {"train/loss": {"history": torch.zeros(2).double(), "counts": torch.ones(2).long()}},
            "runtime_info": {"iter": 10},
        },
    }


def test_a_complete_checkpoint_passes(complete):
    check_structure(complete)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("meta", None, "checkpoint has no 'meta'"),
        ("meta.iter", None, "meta has no 'iter'"),
        ("meta.iter", "11", "meta.iter must be a int, got '11'"),
        ("meta.epoch", -1, "meta.epoch must be an integer >= 0, got -1"),
        ("meta.iter", 10**12, "meta.iter must be 2 epochs x 5 batches"),
        ("meta.step_in_epoch", 5, "meta.step_in_epoch must be less than meta.epoch_length, 5"),
        ("meta.validated_at", 12, "meta.validated_at must be an integer from 0 to 11"),
        ("meta.validation_pending", 1, "meta.validation_pending must be a bool"),
        ("meta.classes", ["cat", 1], "an entry of meta.classes must be a str"),
        ("meta.ema_updates", 3, "ema_state_dict"),
        ("state_dict.weight", [0.0, 0.0], "state_dict.weight must be a Tensor, got a list of 2"),
        ("optimizer.param_groups", [{"lr": 0.1, "params": [1]}], "groups of consecutive parameters"),
        ("optimizer.param_groups", [], "groups|index of one of 0"),
        ("optimizer.state.1", {}, "the index of one of 1 parameters, got 1"),
        ("param_schedulers", [{"last_step": -1}], r"param_schedulers\[0\].last_step must be an integer from 0 to 12"),
        ("random_states", [], "random_states must be a list of 1, one per process"),
        ("random_states", [{}], "not a set of states of random generators"),
        ("hooks.CheckpointHook", [], "hooks.CheckpointHook must be a dict"),
        ("message_hub.runtime_info.iter", [1], "a plain value"),
        ("message_hub.log_scalars.train/loss", {"history": torch.zeros(2)}, "has no 'counts'"),
    ],
)
def test_the_place_of_a_fault_is_named(complete, place, value, message):
    state = copy.deepcopy(complete)
    *path, last = place.split(".")
    container = state
    for name in path:
        container = container[name]
    if value is None:
        del container[last]
    else:
        container[int(last) if last.isdecimal() else last] = value
    with pytest.raises(CheckpointError, match=message):
        check_structure(state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("python", (3, (1, 2), None)),
        ("torch", torch.zeros(3, dtype=torch.uint8)),
        ("numpy", {"keys": torch.full((624,), -1), "position": 0, "has_gauss": 0, "cached": 0.0}),
        ("numpy", {"keys": torch.zeros(624).long(), "position": 1.5, "has_gauss": 0, "cached": 0.0}),
    ],
)
def test_states_of_generators_are_tried_without_changing_the_global_ones(complete, name, value):
    before = random_states()
    state = copy.deepcopy(complete)
    state["random_states"][0][name] = value
    with pytest.raises(CheckpointError, match=r"random_states\[0\]"):
        check_structure(state)
    after = random_states()
    assert after["python"] == before["python"]
    assert torch.equal(after["torch"], before["torch"])
    assert np.array_equal(after["numpy"]["keys"], before["numpy"]["keys"])


def test_values_are_described_briefly():
    assert describe(torch.zeros(2, 3)) == "a tensor of shape (2, 3) and type torch.float32"
    assert len(describe("x" * 100)) == 60
