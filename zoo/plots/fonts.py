"""Fonts for text in images, with letters beyond ASCII.

Pillow's built-in font has ASCII only. DejaVu Sans, which matplotlib installs, has Latin, Greek, Cyrillic and many
symbols. For other scripts, such as Chinese, an installed system font is used if there is one.
"""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import ImageFont


@functools.lru_cache(maxsize=256)
def load_font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """Loads a font that has a glyph for every character of a text, if one is installed.

    Args:
        size: Font size in pixels.
        text: Text that the font is needed for.

    Returns:
        DejaVu Sans, or the system font that has more of the text's characters. Characters that no font has are
        rendered as boxes.
    """
    return ImageFont.truetype(_find_font(frozenset(text)), size)


@functools.lru_cache(maxsize=256)
def _find_font(characters: frozenset[str]) -> str:
    """Returns the path of the font that has the most of the given characters."""
    default = _default_font()
    missing = _missing(default, characters)
    if not missing:
        return default
    from matplotlib import font_manager  # takes a moment: it lists the installed fonts

    # The "last resort" font has a placeholder for every character. Upright regular fonts come first.
    installed = [font for font in font_manager.fontManager.ttflist if "LastResort" not in font.fname]
    installed.sort(key=lambda font: (font.style != "normal", str(font.weight) not in ("400", "normal"), font.fname))
    best, fewest = default, len(missing)
    for path in dict.fromkeys(font.fname for font in installed):
        count = len(_missing(path, characters))
        if count < fewest:
            best, fewest = path, count
        if not fewest:
            break
    return best


def _default_font() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _missing(path: str, characters: frozenset[str]) -> set[str]:
    """Returns the characters that a font has no glyph for; all of them if the file cannot be read."""
    try:
        available = _codepoints(path)
    except (OSError, RuntimeError):  # a font that was removed, or a format that matplotlib cannot read
        return set(characters)
    return {character for character in characters if ord(character) not in available}


@functools.lru_cache(maxsize=64)
def _codepoints(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())
