"""Schedules in absolute rates, and their scaling with the batch size."""

from __future__ import annotations

import pytest
import torch
from timm.scheduler import CosineLRScheduler, StepLRScheduler  # pyright: ignore[reportPrivateImportUsage]  # public
from torch import nn

from attnzoo.zoo.training import (
    OptimWrapper,
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupMultiStep,
    WarmupPoly,
    WarmupStep,
)


def wrapper(lr=0.1, scales=(1.0,)):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr * scale, "lr_scale": scale} for scale in scales]
    return OptimWrapper(torch.optim.SGD(groups, lr=lr))


def rates(kind, steps, group=0, scales=(1.0,), **arguments):
    optimizer = wrapper(scales=scales)
    schedule = kind(optimizer, **arguments)
    found = []
    for _ in range(steps):
        found.append(optimizer.optimizer.param_groups[group]["lr"])
        optimizer.optimizer.step()
        schedule.step()
    return found


RECIPE = {"warmup_lr": 1e-3, "min_lr": 2e-3}


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("by_epoch", [False, True])
def test_cosine_is_timms(prefix, by_epoch):
    epochs, length = 12, 4
    unit = 1 if by_epoch else length
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    # timm adds the cool-down and a warm-up prefix to the length of the cosine.
    cosine = epochs - 2 - (3 if prefix else 0)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=cosine * unit,
        lr_min=2e-3,
        warmup_t=3 * unit,
        warmup_lr_init=1e-3,
        warmup_prefix=prefix,
        t_in_epochs=by_epoch,
    )
    expected = []
    for iteration in range(epochs * length):
        expected.append(optimizer.param_groups[0]["lr"])
        done = iteration + 1
        if by_epoch:
            theirs.step(done // length)
        else:
            theirs.step_update(done)
    arguments = {"epoch_length": length, "end": epochs * length, "warmup_epochs": 3, "cooldown_epochs": 2, **RECIPE}
    found = rates(WarmupCosine, epochs * length, by_epoch=by_epoch, warmup_prefix=prefix, **arguments)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[0] == 1e-3
    assert found[-2 * length :] == pytest.approx([2e-3] * 2 * length)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("decay_epochs", [1, 2.4, 3])
def test_step_is_timms(decay_epochs, prefix):
    epochs, length = 15, 4
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = StepLRScheduler(
        optimizer, decay_t=decay_epochs, decay_rate=0.9, warmup_t=3, warmup_lr_init=1e-3, warmup_prefix=prefix
    )
    expected = []
    for iteration in range(epochs * length):
        expected.append(optimizer.param_groups[0]["lr"])
        theirs.step((iteration + 1) // length)
    arguments = {"epoch_length": length, "end": epochs * length, "warmup_epochs": 3, "warmup_lr": 1e-3}
    decay = {"decay_rate": 0.9, "decay_epochs": decay_epochs, "by_epoch": True, "warmup_prefix": prefix}
    found = rates(WarmupStep, epochs * length, **arguments, **decay)
    assert found == pytest.approx(expected, rel=1e-12)
    assert len(set(found)) > 5


def test_step_within_epochs_has_a_minimum_rate_and_cools_down():
    arguments = {"epoch_length": 4, "end": 12, "decay_rate": 0.5, "decay_epochs": 0.5, "cooldown_iters": 2}
    found = rates(WarmupStep, 12, min_lr=0.02, **arguments)
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025] + [0.02] * 6)
    assert rates(WarmupStep, 12, **arguments)[8:] == pytest.approx([0.1 / 16] * 2 + [0.0] * 2)
    for wrong in ({"decay_rate": 0.0}, {"decay_rate": 1.5}, {"decay_epochs": 0}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"^{name} must be"):
            WarmupStep(wrapper(), **{**arguments, **wrong})


def test_linear_and_constant():
    arguments = {"epoch_length": 5, "end": 10, "warmup_iters": 2, "cooldown_iters": 4, "min_lr": 0.04}
    linear = rates(WarmupLinear, 10, **arguments)
    assert linear == pytest.approx([0, 0.05, 0.08, 0.07, 0.06, 0.05, 0.04, 0.04, 0.04, 0.04])
    assert rates(WarmupConstant, 10, **arguments) == pytest.approx([0, 0.05] + [0.1] * 4 + [0.04] * 4)


def test_groups_follow_their_scale():
    arguments = {"epoch_length": 5, "end": 10, "warmup_epochs": 1, **RECIPE}
    full = rates(WarmupCosine, 10, group=0, scales=(1.0, 0.25), **arguments)
    quarter = rates(WarmupCosine, 10, group=1, scales=(1.0, 0.25), **arguments)
    assert quarter == pytest.approx([0.25 * rate for rate in full])


def test_too_much_warmup_and_negative_rates():
    with pytest.raises(ValueError, match="leave nothing for the decay"):
        WarmupCosine(wrapper(), epoch_length=2, end=10, warmup_epochs=3, cooldown_epochs=2)
    with pytest.raises(ValueError, match="must not be negative"):
        WarmupCosine(wrapper(), epoch_length=2, end=10, min_lr=-1.0)


def test_poly_is_openmmlabs_with_a_warm_up_that_multiplies_the_decay():
    arguments = {"epoch_length": 4, "end": 20, "warmup_iters": 5, "warmup_lr": 1e-7, "warmup_scales": True}
    for power in (1.0, 0.9):
        found = rates(WarmupPoly, 20, power=power, **arguments)
        for iteration, rate in enumerate(found):
            regular = 0.1 * (1 - iteration / 20) ** power
            warm = 1 - (1 - iteration / 5) * (1 - 1e-6) if iteration < 5 else 1
            assert rate == pytest.approx(regular * warm, rel=1e-9)
    halved = rates(WarmupPoly, 20, power=0.9, group=1, scales=(1.0, 0.5), **arguments)
    assert halved == pytest.approx([rate / 2 for rate in found])


def test_multi_step_decays_at_the_milestones():
    arguments = {"epoch_length": 3, "end": 36, "warmup_iters": 2, "warmup_lr": 1e-4}
    found = rates(WarmupMultiStep, 36, milestones=(8, 11), **arguments)
    expected = [1e-4, (0.1 + 1e-4) / 2] + [0.1] * 22 + [0.01] * 9 + [0.001] * 3
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (WarmupPoly, {"power": 0}, "power"),
        (WarmupPoly, {"warmup_scales": True, "warmup_prefix": True}, "warmup_prefix"),
        (WarmupMultiStep, {"milestones": (11, 8)}, "ascending"),
        (WarmupMultiStep, {"milestones": ()}, "milestones"),
        (WarmupMultiStep, {"milestones": (8, 12)}, "12 epochs"),
        (WarmupMultiStep, {"milestones": (8, 11), "gamma": 2}, "gamma"),
    ],
)
def test_wrong_arguments_are_named(kind, arguments, words):
    with pytest.raises(ValueError, match=words):
        kind(wrapper(), epoch_length=3, end=36, **arguments)
