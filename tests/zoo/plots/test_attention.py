"""Figures of attention, and their descriptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnzoo import create_model
from attnzoo.zoo.plots import attention
from attnzoo.zoo.plots.attention import draw_attention
from attnzoo.zoo.plots.overlays import Panel
from attnzoo.zoo.plots.view import View
from support.attention_models import build, image


def test_attention_to_padding_and_zeros_is_described():
    photo = np.zeros((40, 40, 3), np.uint8)
    for kind, stage, words in (
        ("window", 0, "goes to padding of the map"),
        ("halo", 1, "of the attention goes to zeros outside of the map"),
    ):
        shown = View(build(kind), kind, image(40, 40), photo, (39.0, 39.0), stage, 0)
        assert words in draw_attention(shown)[1]
        shown = View(build(kind), kind, image(48, 48), np.zeros((48, 48, 3), np.uint8), (1.0, 1.0), 0, -1)
        assert "padded" not in draw_attention(shown)[1]


def view(kind: str, stage: int = 0, block: int = 0) -> View:
    return View(build(kind), kind, image(64, 64), np.zeros((64, 64, 3), np.uint8), (20.0, 30.0), stage, block)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("neighborhood", "local attention"),
        ("agent with a class token", "agent attention"),
        ("routed and whole map", "routed attention"),
    ],
)
def test_the_kind_of_attention_is_named(kind: str, name: str):
    content, description = draw_attention(view(kind))
    assert description.startswith(name)
    assert content.startswith(b"\x89PNG")


def test_heads_are_chosen_by_index():
    assert len(draw_attention(view("neighborhood", 1), heads=[1])[0]) < len(draw_attention(view("neighborhood", 1))[0])
    with pytest.raises(ValueError, match="There is no head 2; the block has 2, 0 to 1"):
        draw_attention(view("neighborhood", 1), heads=[0, 2])


def test_all_heads_are_shown(monkeypatch: pytest.MonkeyPatch):
    model = create_model("nat_mini", depths=(1,), embed_dims=(36,), num_heads=(18,), kernel_size=3)
    shown = View(model, "nat", image(32, 32), np.zeros((32, 32, 3), np.uint8), (20.0, 30.0), 0, 0)
    titles: list[str] = []
    grid: list[int] = []

    def record(_: np.ndarray, panels: list[Panel], *__: Any, columns: int) -> bytes:
        titles[:] = [panel.title for panel in panels]
        grid.append(columns)
        return b""

    monkeypatch.setattr(attention, "draw_panels", record)
    draw_attention(shown)
    assert titles[:2] == ["the query", "mean of 18 heads"]
    assert [title.partition(",")[0] for title in titles[2:]] == [f"head {head}" for head in range(18)]
    draw_attention(shown, heads=[0, 17])
    assert [title.partition(",")[0] for title in titles[2:]] == ["head 0", "head 17"]
    assert grid == [8, 4]


def test_a_block_without_attention_shows_its_receptive_field():
    shown = View(
        create_model("metaformer_micro"), "pool", image(64, 64), np.zeros((64, 64, 3), np.uint8), (9.0, 9.0), 0, 0
    )
    assert "its receptive field is shown" in draw_attention(shown)[1]
