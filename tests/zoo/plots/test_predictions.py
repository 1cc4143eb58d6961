"""The grid of images with predictions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.analysis.predictions import Prediction
from attnzoo.zoo.plots.predictions import draw_predictions
from support.classifier_predictions import prediction


def pixels_of(content: bytes, color: tuple[int, int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.abs(np.asarray(image.convert("RGB")).astype(int) - np.array(color)).sum(-1) < 30


def test_wrong_predictions_are_framed_in_red():
    def load(prediction: Prediction) -> Image.Image:
        return Image.new("RGB", (8, 8), (0, 0, 255))

    red, green, blue = (214, 39, 40), (44, 160, 44), (0, 0, 255)
    right = draw_predictions([prediction(0, 0, 0), prediction(1, 1, 1)], load, title="right")
    wrong = draw_predictions([prediction(0, 0, 0), prediction(1, 1, 2)], load, title="wrong")
    unknown = draw_predictions([prediction(0, None, 0)], load)
    assert pixels_of(right, blue).sum() > 20_000
    assert pixels_of(right, red).sum() == 0
    assert pixels_of(right, green).sum() > 50
    frame = pixels_of(wrong, red)
    assert frame.sum() > 1000
    assert frame[:, : frame.shape[1] // 2].sum() == 0
    assert pixels_of(unknown, red).sum() < 50  # a few mixed pixels at most
    assert pixels_of(unknown, green).sum() < 50


def test_no_predictions_are_an_error():
    with pytest.raises(ValueError, match="no predictions to plot"):
        draw_predictions([], lambda prediction: Image.new("L", (8, 8)))
