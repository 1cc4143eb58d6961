"""Tests of measuring models, eager and compiled."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.tools.benchmarking import models
from attnzoo.tools.benchmarking.models import ModelSettings, measure_model
from attnzoo.zoo.analysis.timing import Elapsed

CPU = torch.device("cpu")


class TinyModel(nn.Module):
    """A linear classifier of mean colors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "create_model", lambda name: TinyModel())
    monkeypatch.setitem(models.BASELINES, "plain", lambda name, model: copy.deepcopy(model))
    monkeypatch.setattr(torch, "compile", lambda model: model)


def test_eager_and_compiled_rows():
    settings = ModelSettings(2, torch.float32, CPU, compile_modes=(False, True), repeats=2)
    updates: list[list[str]] = []
    rows = measure_model("tiny", (4, 4), settings, ["plain"], on_update=lambda rows: updates.append(list(rows)))
    assert list(rows) == ["attnzoo", "plain", "attnzoo, compiled", "plain, compiled"]
    assert updates == [list(rows)[:count] for count in (1, 2, 3, 4, 4)]
    for name, row in rows.items():
        assert row["params"] == pytest.approx(20e-6)
        assert row["throughput"] == pytest.approx(2e3 / row["latency_ms"])
        assert ("ratio" in row) == (name != "attnzoo")


def test_names_of_rows_if_only_compiled_models_are_measured():
    settings = ModelSettings(2, torch.float32, CPU, train=True, compile_modes=(True,), repeats=1)
    assert list(measure_model("tiny", (4, 4), settings, ["plain"])) == ["attnzoo", "plain"]


def test_model_that_fails_to_compile_is_reported(monkeypatch: pytest.MonkeyPatch):
    def fails(model: nn.Module) -> Any:
        def forward(images: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("no such operator\nmore")

        return forward

    monkeypatch.setattr(torch, "compile", fails)
    settings = ModelSettings(2, torch.float32, CPU, compile_modes=(False, True), repeats=1)
    rows = measure_model("tiny", (4, 4), settings)
    assert rows["attnzoo, compiled"] == {"error": "no such operator"}
    assert rows["attnzoo"]["latency_ms"] > 0


def test_different_logits_are_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(models.BASELINES, "plain", lambda name, model: TinyModel())
    rows = measure_model("tiny", (4, 4), ModelSettings(2, torch.float32, CPU), ["plain"])
    assert list(rows) == ["attnzoo"]
    assert rows["attnzoo"]["error"].startswith("The logits of plain differ from attnzoo's by a relative error of")


def test_ratios_compare_cpu_time_on_a_cpu_and_wall_clock_time_on_a_gpu():
    times, reference = [Elapsed(30.0, 8.0)], [Elapsed(10.0, 4.0)]
    ratios = [
        models._ratio(times, reference, ModelSettings(1, torch.float32, torch.device(device)))
        for device in ("cpu", "cuda")
    ]
    assert ratios == [2.0, 3.0]
