"""Counts of parameters and multiply-accumulates, versions, device."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch
from torch import nn

from attnzoo.zoo.analysis import summary


def test_frozen_parameters_are_not_trainable():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    model[0].requires_grad_(False)
    assert summary.count_parameters(model) == (16 + 25, 25)


def test_multiply_accumulates_are_counted_on_the_meta_device():
    with torch.device("meta"):
        model = nn.Conv2d(2, 8, 3, padding=1)
    assert summary.count_macs(model, (4, 5), in_chans=2) == 2 * 9 * 8 * 20


def test_libraries_that_are_not_installed_are_omitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summary, "LIBRARIES", ("torch", "no-such-library"))
    assert set(summary.library_versions()) == {"python", "torch"}
    assert summary.library_versions()["torch"] == metadata.version("torch")


def test_the_device_is_named():
    if not torch.cuda.is_available():
        assert summary.describe_device().endswith(f"CPU, {torch.get_num_threads()} threads")
    else:
        assert summary.describe_device() == torch.cuda.get_device_name()
