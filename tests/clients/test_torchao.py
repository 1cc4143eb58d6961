"""torchao replaces weights by tensor subclasses: int8 models run in inference, close to the float models."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from support.clients import import_client
from support.small_backbones import MODELS, small_backbone, small_images

torchao = import_client("torchao.quantization")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")]

CONFIGS = {
    "weights": lambda: torchao.Int8WeightOnlyConfig(),
    "weights and activations": lambda: torchao.Int8DynamicActivationInt8WeightConfig(),
}


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("name", list(MODELS))
def test_int8(name: str, kind: str):
    model, x = small_backbone(name), small_images()
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, CONFIGS[kind]())
    replaced = [
        module
        for module in quantized.modules()
        if isinstance(module, nn.Linear) and type(module.weight.data) is not torch.Tensor
    ]
    assert replaced
    with torch.no_grad():
        expected, found = model(x), quantized(x)
    assert 0 < (found - expected).norm() / expected.norm() < 0.1
