"""The precedence of backends."""

from __future__ import annotations

import pytest

from attnzoo.kernels import use_backend
from attnzoo.kernels.backends import requested_backend


def test_a_call_overrides_a_block_and_a_block_overrides_the_environment(monkeypatch):
    assert requested_backend("auto") == "auto"
    monkeypatch.setenv("ATTNZOO_BACKEND", "reference")
    assert requested_backend("auto") == "reference"
    with use_backend("torch"):
        assert requested_backend("auto") == "torch"
        assert requested_backend("triton") == "triton"
        with use_backend("auto"):
            assert requested_backend("auto") == "auto"
        assert requested_backend("auto") == "torch"
    assert requested_backend("auto") == "reference"
    monkeypatch.setenv("ATTNZOO_BACKEND", "refrence")
    with pytest.raises(ValueError, match=r"Unknown ATTNZOO_BACKEND 'refrence'. Did you mean 'reference'"):
        requested_backend("auto")
    with pytest.raises(ValueError, match="Unknown backend 'cuda'"), use_backend("cuda"):
        pass


def test_the_selection_is_restored_after_an_error():
    with pytest.raises(KeyError), use_backend("torch"):
        raise KeyError
    assert requested_backend("auto") == "auto"
