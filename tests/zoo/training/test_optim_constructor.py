"""Optimizers and their wrappers, built from configs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnzoo.zoo.training import OptimWrapperConstructor


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"type": "adaptive", "clip_factor": 0.01, "exclude": ("wait",)}, "exclude 'wait'. Did you mean 'weight'"),
        ({"max_norm": 1.0, "exclude": ("weight",)}, "needs clip_grad.type='adaptive'"),
    ],
)
def test_wrong_exclusions_from_clipping_are_named(clip, message):
    with pytest.raises(ValueError, match=message):
        OptimWrapperConstructor({"optimizer": {"type": "SGD", "lr": 1.0}, "clip_grad": clip})(nn.Linear(3, 1))


def test_optimizers_are_built_with_groups():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    for kind in ("AdamW", "SGD", "LAMB", "RMSpropTF"):
        wrapper = OptimWrapperConstructor({"optimizer": {"type": kind, "lr": 0.1, "weight_decay": 0.5}})(model)
        assert [group["weight_decay"] for group in wrapper.optimizer.param_groups] == [0.5, 0.0]
        # Optimizers do not receive names.
        assert "param_names" not in wrapper.optimizer.param_groups[0]
    for options, message in (
        ({"optimizer": {"type": "AdamX", "lr": 1.0}}, "AdamX"),
        ({"optimizer": {"type": "AdamW"}}, "needs the key 'lr'"),
        ({}, "optim_wrapper.optimizer"),
    ):
        with pytest.raises(ValueError, match=message):
            OptimWrapperConstructor(options)(model)


def test_rmsprop_is_tensorflows():
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    weight = model.weight.detach().clone()
    options = {"type": "RMSpropTF", "lr": 0.1, "alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "weight_decay": 0.25}
    optimizer = OptimWrapperConstructor({"optimizer": options})(model).optimizer
    squares, momentum = torch.ones_like(weight), torch.zeros_like(weight)
    for lr in (0.1, 0.02):
        optimizer.param_groups[0]["lr"] = lr
        model.weight.grad = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
        gradient = model.weight.grad + 0.25 * weight
        squares = 0.9 * squares + 0.1 * gradient**2
        # The momentum includes the learning rate, and the square root includes epsilon.
        momentum = 0.5 * momentum + lr * gradient / (squares + 1e-3).sqrt()
        weight = weight - momentum
        optimizer.step()
        torch.testing.assert_close(model.weight.detach(), weight)
