"""The choice of an implementation, and dtypes under autocast."""

from __future__ import annotations

import warnings
from types import ModuleType

import pytest
import torch

from attnzoo.kernels import dispatch
from attnzoo.kernels.neighborhood import cpu


def _not_called() -> ModuleType:
    raise AssertionError("the fused kernels cannot run here")


def _select(query: torch.Tensor, backend: str) -> ModuleType:
    return dispatch.select_backend(query, backend, cpu, _not_called)


class _OnCuda:
    """A stand-in for a CUDA tensor, with the attributes that the choice of a backend reads."""

    device = torch.device("cuda")
    dtype = torch.float32
    shape = (1, 7, 7, 1, 32)


@pytest.mark.parametrize(("missing", "advice"), [("compiler", "apt-get install gcc"), ("triton", "pip install triton")])
def test_what_triton_lacks_is_reported_once(missing, advice, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(dispatch.shutil, "which", lambda name: None)
    monkeypatch.setattr(dispatch, "_has_triton", lambda: missing != "triton")
    dispatch._warn_once.cache_clear()
    query: torch.Tensor = _OnCuda()  # pyright: ignore[reportAssignmentType] - a stand-in
    with pytest.warns(RuntimeWarning, match=advice):
        assert _select(query, "auto") is cpu
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _select(query, "auto") is cpu
        assert _select(query, "torch") is cpu
    with pytest.raises(ValueError, match=advice):
        _select(query, "triton")


def test_float64_runs_in_plain_pytorch_on_a_gpu():
    class Double(_OnCuda):
        dtype = torch.float64

    query: torch.Tensor = Double()  # pyright: ignore[reportAssignmentType] - a stand-in
    assert _select(query, "auto") is cpu
