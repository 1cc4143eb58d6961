"""Tests that MODELS.md and its plot are complete and up to date, and of the tool that writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo import get_pretrained_cfg, list_models
from attnzoo.backbones import registry
from attnzoo.tools import models
from attnzoo.zoo.analysis.catalog import called_kernels
from support import parity

NAMES = list_models()


def packs() -> dict[str, list[Path]]:
    """Returns the parity packs of each model."""
    found: dict[str, list[Path]] = {}
    for path in parity.packs():
        found.setdefault(parity.model_of(path)[0], []).append(path)
    return found


def row(page: str, name: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_page_is_up_to_date():
    assert models.page(models.read_measured()) == models.PAGE.read_text(encoding="utf-8"), "run `make models`"
    assert models.PLOT.stat().st_size > 10_000


def test_every_checkpoint_has_a_row():
    page = models.PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        for tag in registry.get_tags(name):
            cells = row(page, f"{name}.{tag}")
            assert len(cells) == 9
            cfg = get_pretrained_cfg(f"{name}.{tag}")
            assert cells[4] == ("" if cfg.top1 is None else f"{cfg.top1:g}")
            status = "not published" if not cfg.has_weights else "(broken)" if cfg.broken else "(unverified)"
            assert (status in cells[6]) == (not cfg.verified or not cfg.has_weights)


def test_recorded_errors_are_within_the_tolerance_of_the_packs():
    measured, by_model = models.read_measured(), packs()
    assert {name for name, one in measured.items() if one.parity is not None} == set(by_model)
    for name, paths in by_model.items():
        error = measured[name].parity
        assert error is not None
        assert error <= max(parity.tolerance(json.loads(path.read_text())) for path in paths)


def test_recorded_kernels_are_those_that_a_model_calls():
    assert called_kernels("nat_mini") == models.read_measured()["nat_mini"].kernels == ("neighborhood",)
    assert called_kernels("van_b0") == models.read_measured()["van_b0"].kernels == ()


@pytest.mark.slow
def test_recorded_measurements_are_reproduced():
    recorded = models.read_measured()
    for name, one in zip(NAMES, models.measure(NAMES), strict=True):
        assert one.kernels == recorded[name].kernels, name
        before = recorded[name].parity
        assert (one.parity is None) == (before is None), name
        if one.parity is not None and before is not None:
            assert one.parity <= 4 * before, name  # rounding errors differ between processors
