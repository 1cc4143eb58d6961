"""captum's attributions on every family."""

from __future__ import annotations

import pytest
import torch

from support.clients import import_client
from support.small_backbones import MODELS, small_backbone, small_images

attr = import_client("captum.attr")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(MODELS))
def test_integrated_gradients_are_complete(name: str):
    """Attributions add up to the difference of the logits (completeness), up to the error of the integration."""
    model, x = small_backbone(name), small_images()
    attributions, delta = attr.IntegratedGradients(model).attribute(
        x, torch.zeros_like(x), target=1, n_steps=100, internal_batch_size=20, return_convergence_delta=True
    )
    with torch.no_grad():
        difference = (model(x) - model(torch.zeros_like(x)))[:, 1]
    assert attributions.shape == x.shape
    torch.testing.assert_close(attributions.sum((1, 2, 3)), (difference + delta).to(attributions), rtol=1e-3, atol=1e-4)
    assert delta.abs().max() < 0.1 * difference.abs().max() + 1e-2


@pytest.mark.parametrize("name", list(MODELS))
def test_layer_attributions(name: str):
    model, x = small_backbone(name), small_images()
    layer = model.get_submodule(model.feature_info[0]["module"])
    attributions = attr.LayerGradCam(model, layer).attribute(x, target=1)
    activations = attr.LayerActivation(model, layer).attribute(x)
    assert attributions.isfinite().all()
    assert activations.shape[0] == attributions.shape[0] == 2
