"""The page of all models, and its plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attnzoo import list_models
from attnzoo.backbones import registry
from attnzoo.zoo.analysis.catalog import ModelMeasurement
from attnzoo.zoo.plots.catalog import catalog_page, draw_catalog

UNMEASURED = {name: ModelMeasurement(None, ()) for name in list_models()}


def row(page: str, name: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_a_model_that_is_not_measured_or_unknown_is_named():
    known = {name: one for name, one in UNMEASURED.items() if name != "nat_mini"}
    with pytest.raises(ValueError, match=r"missing: \['nat_mini'\], unknown: \['nat_mimi'\]"):
        catalog_page({**known, "nat_mimi": ModelMeasurement(None, ())}, "plot.png")


def test_cells_show_what_is_known(monkeypatch: pytest.MonkeyPatch):
    real = registry.get_pretrained_cfg
    odd = {"top1": None, "broken": True, "test_input_size": (3, 288, 320), "license": "none stated: all reserved"}

    def changed(name: str):
        cfg = real(name)
        return replace(cfg, **odd) if name == "nat_mini.in1k" else cfg

    monkeypatch.setattr("attnzoo.zoo.plots.catalog.get_pretrained_cfg", changed)
    page = catalog_page({**UNMEASURED, "nat_mini": ModelMeasurement(2e-6, ("neighborhood", "routing"))}, "plot.png")
    cells = row(page, "nat_mini.in1k")
    assert cells[1:6] == ["19.98", "2.69", "224 → 288x320", "", "none stated"]
    assert cells[6].endswith("(broken)")
    assert cells[7:] == ["2e-06", "neighborhood, routing"]
    assert row(page, "nat_tiny.in1k")[7:] == ["parameters and MACs only", "none"]
    assert "![" in page
    assert "(plot.png)" in page


def test_the_plot_is_a_png(tmp_path: Path):
    path = draw_catalog(tmp_path / "models.png")
    assert path.read_bytes().startswith(b"\x89PNG")
