"""MODELS.md and its picture: up to date, complete, and true of the models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.backbones import registry
from attnzoo.tools import models
from attnzoo.zoo.plots.catalog import Measured, catalogue_page, draw_catalogue
from support import parity

NAMES = list_models()
UNMEASURED = {name: Measured(None, ()) for name in NAMES}


def packs() -> dict[str, list[Path]]:
    """The parity packs of each model."""
    found: dict[str, list[Path]] = {}
    for path in parity.packs():
        found.setdefault(parity.model_of(path)[0], []).append(path)
    return found


def row(page: str, name: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_page_is_up_to_date():
    assert models.page(models.read_measured()) == models.PAGE.read_text(encoding="utf-8"), "run `make models`"
    assert models.PICTURE.stat().st_size > 10_000


def test_every_checkpoint_has_its_row():
    page = models.PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        for tag in registry.get_tags(name):
            cells = row(page, f"{name}.{tag}")
            assert len(cells) == 9
            cfg = get_pretrained_cfg(f"{name}.{tag}")
            assert cells[4] == ("" if cfg.top1 is None else f"{cfg.top1:g}")
            status = "not published" if not cfg.has_weights else "(broken)" if cfg.broken else "(unverified)"
            assert (status in cells[6]) == (not cfg.verified or not cfg.has_weights)


def test_parity_is_what_packs_allow():
    measured, by_model = models.read_measured(), packs()
    assert {name for name, one in measured.items() if one.parity is not None} == set(by_model)
    for name, paths in by_model.items():
        error = measured[name].parity
        assert error is not None
        assert error <= max(parity.tolerance(json.loads(path.read_text())) for path in paths)


def test_a_models_kernels_are_those_that_it_calls():
    assert models.kernels_of("nat_mini") == models.read_measured()["nat_mini"].kernels == ("neighborhood",)
    assert models.kernels_of("van_b0") == models.read_measured()["van_b0"].kernels == ()


def test_a_model_that_is_not_measured_or_unknown_is_named():
    known = {name: one for name, one in UNMEASURED.items() if name != "nat_mini"}
    with pytest.raises(ValueError, match=r"missing are \['nat_mini'\], unknown are \['nat_mimi'\]"):
        catalogue_page({**known, "nat_mimi": Measured(None, ())}, "picture.png")


def test_cells_show_what_is_known(monkeypatch: pytest.MonkeyPatch):
    real = registry.get_pretrained_cfg
    odd = {"top1": None, "broken": True, "test_input_size": (3, 288, 320), "license": "none stated: all reserved"}

    def changed(name: str):
        cfg = real(name)
        return replace(cfg, **odd) if name == "nat_mini.in1k" else cfg

    monkeypatch.setattr("attnzoo.zoo.plots.catalog.get_pretrained_cfg", changed)
    page = catalogue_page({**UNMEASURED, "nat_mini": Measured(2e-6, ("neighborhood", "routing"))}, "picture.png")
    cells = row(page, "nat_mini.in1k")
    assert cells[1:6] == ["19.98", "2.69", "224 → 288x320", "", "none stated"]
    assert cells[6].endswith("(broken)")
    assert cells[7:] == ["2e-06", "neighborhood, routing"]
    assert row(page, "nat_tiny.in1k")[7:] == ["parameters and MACs only", "none"]
    assert "![" in page
    assert "(picture.png)" in page


def test_the_picture_is_drawn(tmp_path: Path):
    path = draw_catalogue(tmp_path / "models.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_was_measured_still_holds():
    recorded = models.read_measured()
    for name, one in zip(NAMES, models.measure(NAMES), strict=True):
        assert one.kernels == recorded[name].kernels, name
        before = recorded[name].parity
        assert (one.parity is None) == (before is None), name
        if one.parity is not None and before is not None:
            assert one.parity <= 4 * before, name  # float noise differs between processors
