"""Importing a module registers the zoo's models in timm."""

from __future__ import annotations

import importlib

import pytest

from attnzoo import register_in_timm
from attnzoo.zoo import timm_models


def test_the_import_registers_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert register_in_timm() == timm_models.MODELS
    calls = []
    monkeypatch.setattr("attnzoo.zoo.interop.register_in_timm", lambda *prefix: calls.append(prefix))
    importlib.reload(timm_models)
    assert calls == [()]
    monkeypatch.undo()
    importlib.reload(timm_models)
