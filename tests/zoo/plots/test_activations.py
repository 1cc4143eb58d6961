"""Figures of receptive fields, feature maps and Grad-CAM, and their descriptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnzoo import create_model
from attnzoo.zoo.plots.activations import draw_feature_maps, draw_grad_cam, draw_receptive_field
from attnzoo.zoo.plots.view import View
from support.attention_models import NAT, build, image


def view(model: Any) -> View:
    return View(model, "a model", image(64, 64), np.zeros((64, 64, 3), np.uint8), (20.0, 30.0), 0, 0)


def test_the_receptive_field_is_described():
    content, description = draw_receptive_field(view(build("neighborhood")))
    assert content.startswith(b"\x89PNG")
    assert description.startswith("map of 16 x 16 positions; ")
    assert description.endswith("% of the pixels exceed 5 % of the maximum")


def test_every_feature_map_is_plotted():
    full = draw_feature_maps(view(build("neighborhood")))
    assert full[1] == "2 maps"
    last = draw_feature_maps(view(create_model("nat_mini", features_only=True, out_indices=(1,), **NAT)))
    assert last[1] == "1 maps"
    assert len(last[0]) < len(full[0])


def test_grad_cam_names_the_class():
    classes = ("a", "b", "c", "d", "e")
    assert draw_grad_cam(view(build("neighborhood")), 3, classes)[1].startswith("d, probability 0.")
    assert draw_grad_cam(view(build("neighborhood")), 3, None)[1].startswith("class 3, probability 0.")
    with pytest.raises(ValueError, match="There is no class 5; the model has 5"):
        draw_grad_cam(view(build("neighborhood")), 5, classes)
