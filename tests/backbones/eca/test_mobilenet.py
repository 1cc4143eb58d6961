"""MobileNetV2 with efficient channel attention."""

from __future__ import annotations

import math

import pytest
import torch

from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.eca import ECAMobileNetV2
from support.ecas import gates


class TestModels:
    def test_initial_values_of_mobilenet(self):
        torch.manual_seed(0)
        model = model_entrypoint("eca_mobilenet_v2")()
        assert model.norm.conv.weight.std().item() == pytest.approx(math.sqrt(2 / 1280), rel=0.03)
        assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert not model.head.fc.bias.any()
        model.reset_classifier(300)
        assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.03)

    def test_maps_of_mobilenet_end_before_the_last_convolution(self):
        model = model_entrypoint("eca_mobilenet_v2")(num_classes=3).eval()
        images = torch.randn(1, 3, 65, 40)
        last, maps = model.forward_intermediates(images)
        assert [one.shape[1] for one in maps] == [24, 32, 96, 320]
        assert last.shape == (1, 1280, 3, 2)
        torch.testing.assert_close(model.norm(maps[-1]), last)
        assert not any(name.startswith("body.norm") for name in FeatureMaps(model).state_dict())

    def test_width_of_mobilenet_is_rounded_down(self):
        model = ECAMobileNetV2(width_mult=0.35)
        assert [stage["num_chs"] for stage in model.feature_info] == [8, 11, 33, 112]
        assert model.num_features == 1280
        assert gates(model) == [[1] * 3, [1] * 3, [1] * 4 + [3] * 3, [3] * 4]
        assert ECAMobileNetV2(width_mult=1.5).num_features == 1920

    def test_invalid_mobilenet_arguments_raise(self):
        with pytest.raises(ValueError, match=r"width_mult must be >= 1/16, got 0\.01"):
            ECAMobileNetV2(width_mult=0.01)
        with pytest.raises(ValueError, match="k_size must have one entry per row, got 2 for 7 rows"):
            ECAMobileNetV2(k_size=(1, 3))
