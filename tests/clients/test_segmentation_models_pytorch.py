"""segmentation_models_pytorch builds its decoders on attnzoo's backbones, which it finds in timm's registry."""

from __future__ import annotations

import pytest
import torch

import attnzoo
from support.clients import import_client

smp = import_client("segmentation_models_pytorch")
pytestmark = pytest.mark.slow

ENCODERS = ("nat_mini", "davit_tiny", "biformer_tiny", "van_b0", "halonet26t", "eca_resnet18", "agent_pvt_tiny")


@pytest.mark.parametrize("name", ENCODERS)
def test_unet(name: str):
    attnzoo.register_in_timm()
    model = smp.Unet(f"tu-attnzoo_{name}", encoder_weights=None, classes=3).train()
    masks = model(torch.randn(2, 3, 64, 64))
    assert masks.shape == (2, 3, 64, 64)
    masks.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.segmentation_head.parameters())
    assert sum(one.grad is not None for one in model.encoder.parameters()) > 0


def test_fewer_stages():
    attnzoo.register_in_timm()
    options = {"encoder_depth": 3, "decoder_channels": (32, 16, 8), "classes": 2}
    model = smp.Unet("tu-attnzoo_eca_resnet18", encoder_weights=None, **options).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_dilated_encoders_are_refused():
    attnzoo.register_in_timm()
    with pytest.raises(ValueError, match="output_stride must be 32, got 16"):
        smp.DeepLabV3Plus("tu-attnzoo_eca_resnet18", encoder_weights=None)
