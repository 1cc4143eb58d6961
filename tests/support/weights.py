"""Comparison of the weights of models."""

from __future__ import annotations

import torch
from torch import nn


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    assert model.state_dict().keys() == other.state_dict().keys()
    for (name, own), value in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(own, value), name
