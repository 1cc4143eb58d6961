"""The metadata of exported files."""

from __future__ import annotations

import json

from attnzoo.zoo.export import exportable, file_metadata
from attnzoo.zoo.preprocessing import Preprocessing

from ..weights.small_models import small


def test_a_model_describes_itself() -> None:
    model = small()
    Preprocessing(crop_pct=0.9, label_names=tuple("abcde"), mean=(0.1, 0.2, 0.3)).write_to(model)
    texts = file_metadata(exportable(model), (96, 64))
    assert texts["attnzoo.model"] == "nat_mini"
    assert json.loads(texts["attnzoo.image_size"]) == [96, 64]
    assert json.loads(texts["attnzoo.mean"]) == [0.1, 0.2, 0.3]
    assert json.loads(texts["attnzoo.crop_pct"]) == 0.9
    assert (texts["attnzoo.crop_mode"], texts["attnzoo.interpolation"]) == ("center", "bicubic")
    assert json.loads(texts["attnzoo.classes"]) == list("abcde")
    assert texts["attnzoo.input"] == "(pixel / 255 - mean) / std, RGB"
    pixels = file_metadata(exportable(model, mean=(0.1, 0.2, 0.3), std=(1, 1, 1)), (96, 64))
    assert pixels["attnzoo.input"] == "pixel values of 0 to 255, RGB"


def test_given_preprocessing_and_unknown_fields() -> None:
    texts = file_metadata(exportable(small()), (32, 32), Preprocessing(mean=(0.5,)))
    assert json.loads(texts["attnzoo.mean"]) == [0.5]
    assert "attnzoo.classes" not in texts
    assert "attnzoo.crop_pct" not in texts
