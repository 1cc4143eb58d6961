"""pytorch-grad-cam on the last stage of every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.clients import import_client
from support.small_backbones import MODELS, small_backbone, small_images

pytorch_grad_cam = import_client("pytorch_grad_cam")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(MODELS))
def test_maps_of_the_last_stage(name: str):
    model, x = small_backbone(name), small_images(2, 64, 64)
    last = model.feature_info[-1]

    def to_map(features: torch.Tensor) -> torch.Tensor:
        if features.ndim == 3:  # tokens, the class token first
            return features[:, 1:].transpose(1, 2).unflatten(2, (64 // last["reduction"], -1))
        return features if features.shape[1] == last["num_chs"] else features.permute(0, 3, 1, 2)

    # The norm behind the last stage, before the pooling to a class token, has a gradient at every position.
    stage = model.get_submodule(last["module"])
    layer = stage.blocks[-1].norm1 if name == "agent_deit" else stage
    targets = [pytorch_grad_cam.utils.model_targets.ClassifierOutputTarget(index) for index in (0, 1)]
    with pytorch_grad_cam.GradCAM(model, [layer], reshape_transform=to_map) as cam:
        maps = cam(input_tensor=x, targets=targets)
    assert maps.shape == (2, 64, 64)
    assert np.isfinite(maps).all()
    assert maps.std() > 0
