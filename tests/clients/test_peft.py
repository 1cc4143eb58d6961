"""peft's LoRA on attnzoo's models: adapters are called, trained, and merged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from support.clients import import_client
from support.small_backbones import MODELS, small_backbone, small_images

peft = import_client("peft")
pytestmark = pytest.mark.slow


def targets_of(model: nn.Module) -> list[str]:
    """Names of all layers that LoRA can adapt: linear layers, and convolutions without groups."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]


@pytest.mark.parametrize("name", list(MODELS))
def test_lora_on_all_layers(name: str):
    model, x = small_backbone(name), small_images()
    targets = targets_of(model)
    lora = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=2, target_modules=targets)).eval()
    with torch.no_grad():
        torch.testing.assert_close(lora(x), model(x), rtol=1e-4, atol=1e-5)

    optimizer = torch.optim.SGD([one for one in lora.parameters() if one.requires_grad], lr=0.1)
    for _ in range(2):  # the first step trains the second matrix only, as it is zero
        optimizer.zero_grad()
        lora(x).square().sum().backward()
        optimizer.step()
    untrained = [
        key
        for key, one in lora.named_parameters()
        if one.requires_grad and (one.grad is None or not one.grad.isfinite().all())
    ]
    assert not untrained
    adapters = {key: one for key, one in lora.named_parameters() if "lora_B" in key}
    assert len(adapters) == len(targets)
    moved = [key for key, one in adapters.items() if one.any()]
    assert len(moved) > 0.9 * len(adapters)

    with torch.no_grad():
        adapted = lora(x)
        merged = lora.merge_and_unload()
        torch.testing.assert_close(merged(x), adapted, rtol=1e-3, atol=1e-4)
        assert (adapted - model(x)).abs().max() > 1e-4
