"""What an exported file tells about itself: its model, how images are prepared for it, and its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import __version__
from ..preprocessing import Preprocessing
from .parts import Exportable


def file_metadata(
    part: Exportable, image_size: Sequence[int], preprocessing: Preprocessing | None = None
) -> dict[str, str]:
    """Returns the metadata of an exported file.

    Args:
        part: Model as returned by `exportable`.
        image_size: Height and width of the file's images in pixels.
        preprocessing: How images are prepared; by default what the model knows.

    Returns:
        Texts by name: `attnzoo.version`, `attnzoo.model`, `attnzoo.input` (in words), and as JSON `attnzoo.image_size`,
        `attnzoo.mean`, `attnzoo.std`, `attnzoo.crop_pct`, `attnzoo.crop_mode`, `attnzoo.interpolation` (a text),
        `attnzoo.classes`, and `attnzoo.transform` for detectors and segmentors. Unknown ones are left out.
    """
    backbone: Any = getattr(part.model, "backbone", part.model)
    cfg = getattr(backbone, "pretrained_cfg", None) or {}
    images = Preprocessing.from_model(part.model) if preprocessing is None else preprocessing
    return {
        "attnzoo.version": __version__,
        "attnzoo.model": str(cfg.get("architecture", type(backbone).__name__)),
        "attnzoo.input": "pixel values of 0 to 255, RGB" if part.normalizes else "(pixel / 255 - mean) / std, RGB",
        **images.to_metadata(image_size),
    }
