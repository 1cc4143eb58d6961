"""`torch.ao.quantization.quantize_dynamic` replaces every linear layer, and the result is close to the float model."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.ao.nn.quantized import dynamic

import attnzoo
from support.small_backbones import MODELS, small_backbone, small_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*quantiz")


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in model.modules())


@pytest.mark.skipif(torch.backends.quantized.engine == "none", reason="this build of PyTorch has no quantized kernels")
@pytest.mark.parametrize("name", list(MODELS))
def test_every_linear_layer_is_replaced(name: str):
    model, x = small_backbone(name), small_images()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert count(model, nn.Linear) == count(quantized, dynamic.Linear) > 0
    assert count(quantized, nn.Linear) == 0
    with torch.no_grad():
        expected, found = model(x), quantized(x)
    assert 0 < (found - expected).norm() / expected.norm() < 0.1


def test_as_many_linear_layers_as_in_timm():
    with torch.device("meta"):
        counts = [count(create("davit_tiny"), nn.Linear) for create in (attnzoo.create_model, timm.create_model)]
    assert counts == [49, 49]
