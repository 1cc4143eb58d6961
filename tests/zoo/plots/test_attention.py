"""Figures of attention, and their descriptions."""

from __future__ import annotations

import numpy as np
import pytest

from attnzoo import create_model
from attnzoo.zoo.plots.attention import draw_attention
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


def test_a_block_without_attention_shows_its_receptive_field():
    shown = View(
        create_model("metaformer_micro"), "pool", image(64, 64), np.zeros((64, 64, 3), np.uint8), (9.0, 9.0), 0, 0
    )
    assert "its receptive field is shown" in draw_attention(shown)[1]
