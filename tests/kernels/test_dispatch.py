"""The choice of an implementation, and dtypes under autocast."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from attnzoo.kernels import dispatch
from attnzoo.kernels.neighborhood import cpu
from attnzoo.kernels.neighborhood.operator import ranged_attention
from attnzoo.kernels.routing.operator import routed_attention
from attnzoo.kernels.triton_common import checks as tile_checks


def _not_called() -> ModuleType:
    raise AssertionError("the fused kernels cannot run here")


def _select(query: torch.Tensor, backend: str, load: Callable[[], Any] = _not_called) -> ModuleType:
    return dispatch.select_backend((query,), backend, cpu, load)


class _OnCuda:
    """A stand-in for a CUDA tensor, with the attributes that the choice of a backend reads."""

    device = torch.device("cuda")
    dtype = torch.float32
    shape = (1, 7, 7, 1, 32)


@pytest.mark.parametrize(("missing", "advice"), [("compiler", "apt-get install gcc"), ("triton", "pip install triton")])
def test_what_triton_lacks_is_reported_once(missing, advice, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(dispatch, "_has_compiler", lambda command, path: missing != "compiler")
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


def test_what_the_kernels_do_not_support_is_reported_once(monkeypatch):
    monkeypatch.setattr(dispatch, "_triton_problem", lambda device_type: None)
    answers = ["dims <= 32, got dim 33.", "dims <= 32, got dim 33.", None]
    fused: Any = SimpleNamespace(unsupported=lambda operands: answers.pop(0))
    dispatch._warn_once.cache_clear()
    query: torch.Tensor = _OnCuda()  # pyright: ignore[reportAssignmentType] - a stand-in
    with pytest.warns(RuntimeWarning, match=r"they support dims <= 32, got dim 33\. Attention runs in plain PyTorch"):
        assert _select(query, "auto", lambda: fused) is cpu
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _select(query, "auto", lambda: fused) is cpu
        assert _select(query, "auto", lambda: fused) is fused
        assert _select(query, "triton", lambda: fused) is fused  # raises the error itself


@pytest.mark.filterwarnings("ignore:attnzoo's fused kernels")
@pytest.mark.parametrize("operator", [ranged_attention, routed_attention])
def test_both_operations_say_what_their_kernels_support(operator, monkeypatch):
    """Dims that no kernel takes run in plain PyTorch on a GPU."""
    monkeypatch.setattr(dispatch, "_triton_problem", lambda device_type: None)
    monkeypatch.setattr(tile_checks, "device_limits", lambda device: None)
    for dim, wanted in ((257, "cpu"), (256, "fused")):
        like: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float16, shape=(1, 7, 7, 1, dim))
        operands = operator.operands(*[like] * 4)
        assert operator.select_backend(operands, "auto").__name__.rpartition(".")[2] == wanted


def test_a_compiler_is_searched_for_once(monkeypatch, tmp_path):
    searched = []
    monkeypatch.setattr(dispatch.shutil, "which", lambda name, path: searched.append(name))
    dispatch._has_compiler.cache_clear()
    for _ in range(2):
        assert not dispatch._has_compiler(None, str(tmp_path))
        assert dispatch._has_compiler("gcc-14", str(tmp_path))
    assert searched == ["gcc", "clang", "cc"]
    dispatch._has_compiler.cache_clear()


def test_float64_runs_in_plain_pytorch_on_a_gpu():
    class Double(_OnCuda):
        dtype = torch.float64

    query: torch.Tensor = Double()  # pyright: ignore[reportAssignmentType] - a stand-in
    assert _select(query, "auto") is cpu
