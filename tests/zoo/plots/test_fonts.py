"""Fonts have the letters that class names use."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from attnzoo.zoo.plots import fonts
from attnzoo.zoo.plots.fonts import load_font

MISSING = "\U0010fffd"  # a private-use character that no font has


def render(text: str, font_for: str | None = None) -> np.ndarray:
    image = Image.new("L", (60, 60), 255)
    font = load_font(40, text if font_for is None else font_for)
    ImageDraw.Draw(image).text((5, 5), text, fill=0, font=font)
    return np.asarray(image)


@pytest.mark.parametrize(("letter", "base"), [("ü", "u"), ("é", "e"), ("č", "c"), ("ñ", "n"), ("Ж", "X"), ("Ω", "O")])
def test_letters_beyond_ascii_are_rendered(letter: str, base: str):
    drawn = render(letter)
    assert (drawn < 128).sum() > 50
    assert not np.array_equal(drawn, render(MISSING, ""))
    assert not np.array_equal(drawn, render(base))


def test_a_system_font_is_used_for_characters_that_the_default_font_lacks(monkeypatch: pytest.MonkeyPatch):
    character = "\U0001d4d0"  # MATHEMATICAL BOLD SCRIPT CAPITAL A: in the STIX fonts of matplotlib
    default = fonts._default_font()
    monkeypatch.setattr(fonts, "_default_font", lambda: default)
    assert character not in map(chr, fonts._codepoints(default))
    assert character in map(chr, fonts._codepoints(load_font(20, f"a {character}").path))
    assert not np.array_equal(render(character), render(character, ""))


def test_without_any_font_for_a_character_the_default_font_is_used():
    assert load_font(20, MISSING).path == fonts._default_font()


def test_a_font_file_that_cannot_be_read_is_passed_over():
    assert fonts._missing("nowhere.ttf", frozenset("ab")) == {"a", "b"}
