"""Tests of data types, tolerances and the comparison of results."""

from __future__ import annotations

import pytest
import torch

from attnzoo.tools.benchmarking.precision import DTYPES, TOLERANCES, agree, default_device, default_dtype


def test_every_dtype_has_a_tolerance():
    assert set(DTYPES.values()) == set(TOLERANCES)
    assert (
        TOLERANCES[torch.float64] < TOLERANCES[torch.float32] < TOLERANCES[torch.float16] < TOLERANCES[torch.bfloat16]
    )
    assert default_dtype(torch.device("cpu")) == "float32"
    assert default_dtype(torch.device("cuda")) == "bfloat16"


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_default_device_is_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch, available: bool, device: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert default_device() == torch.device(device)


def test_every_tensor_must_agree():
    expected = [torch.full((4,), 100.0, dtype=torch.float64), torch.full((2,), 1.0, dtype=torch.float64)]
    assert agree([expected[0] + 0.9, expected[1] + 0.009], expected, 0.01)
    assert not agree([expected[0] + 0.9, expected[1] + 0.02], expected, 0.01)
    assert not agree([expected[0], expected[1] * torch.nan], expected, 0.01)
