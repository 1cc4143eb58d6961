"""The table and the plot of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attnzoo.zoo.analysis.comparison import Candidate
from attnzoo.zoo.plots.comparison import comparison_table, draw_comparison

CANDIDATES = [
    Candidate("low", 90.5, 91.0, 1_500_000, 20_000_000, 100.0, 30.0, 5_000_000, 50_000_000, 12.3),
    Candidate("failed", error="ValueError: no"),
    Candidate("high", 95.25, 95.5, 2_000_000, 30_000_000, 50.0, 20.0, 6_000_000, 400_000_000, 20.0),
    Candidate("unmeasured", 93.0, 93.0, error="RuntimeError: out of memory"),
]


def test_the_table_is_ranked_and_lists_failures():
    lines = comparison_table(CANDIDATES).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["high", "unmeasured", "low", "failed"]
    assert lines[4] == "| low | 90.50 | 91.00 | 1.5 | 20 | 100 | 30 | 5.0 | 50.0 | 12 |"
    assert lines[5] == "| failed |" + " - |" * 9
    assert lines[6:] == [
        "",
        "- unmeasured failed: RuntimeError: out of memory",
        "- failed failed: ValueError: no",
    ]
    assert {line.count("|") for line in lines[:6]} == {11}


def test_every_panel_has_a_point_per_candidate(tmp_path: Path):
    path = draw_comparison(CANDIDATES, tmp_path / "all.png", "Title", "and more")
    with Image.open(path) as image:
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 24) or []}
        assert image.size == (1430, 1056)
    # The first two colors; the third candidate was not measured.
    assert {(31, 119, 180), (255, 127, 14)} <= colors
    assert not {(44, 160, 44), (214, 39, 40)} & colors


def test_no_results_are_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="no training was completed"):
        draw_comparison([CANDIDATES[1]], tmp_path / "none.png", "Title")
