"""Hooks, parametrizations and pruning see every layer, and fast paths do not change what layers compute."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from support.small_backbones import MODELS, small_backbone, small_images

OBSERVED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d, nn.GELU, nn.ReLU, nn.SiLU, nn.ReLU6)
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def layers_of(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(MODELS))
class TestEveryFamily:
    @torch.no_grad()
    def test_hooks_on_all_layers(self, name: str):
        model, x = small_backbone(name), small_images()
        expected, called = model(x), set()
        for place, layer in layers_of(model, OBSERVED).items():
            layer.register_forward_hook(lambda *_, place=place: called.add(place))
        assert_equal(model(x), expected)
        assert called == set(layers_of(model, OBSERVED))

    @torch.no_grad()
    def test_a_hook_on_one_layer(self, name: str):
        """One layer of each name ("qkv", "bn", ...), because fast paths compute several layers at once."""
        model, x = small_backbone(name), small_images()
        expected, called = model(x), []
        names = {place.rpartition(".")[2]: place for place in layers_of(model, OBSERVED)}
        layers = {place: model.get_submodule(place) for place in names.values()}
        for place, layer in layers.items():
            handle = layer.register_forward_hook(lambda *_, place=place: called.append(place))
            assert_equal(model(x), expected)
            handle.remove()
        assert called == list(layers)

    @pytest.mark.filterwarnings("ignore:Full backward hook")
    def test_backward_hooks(self, name: str):
        model, called = small_backbone(name), set()
        for place, layer in layers_of(model, WEIGHTED).items():
            layer.register_full_backward_hook(lambda *_, place=place: called.add(place))
        model(small_images()).square().sum().backward()
        assert called == set(layers_of(model, WEIGHTED))

    @torch.no_grad()
    def test_wrapped_layers(self, name: str):
        """Adapters such as LoRA's replace a layer by a module without its attributes."""
        model, x = small_backbone(name), small_images()
        expected = model(x)
        for place, layer in layers_of(model, OBSERVED).items():
            model.set_submodule(place, nn.Sequential(layer))
        assert_equal(model(x), expected)

    @torch.no_grad()
    def test_weight_norm(self, name: str):
        model, x = small_backbone(name), small_images()
        expected = model(x)
        for layer in layers_of(model, WEIGHTED).values():
            parametrizations.weight_norm(layer)
        assert_equal(model(x), expected)
        for key, parameter in model.named_parameters():
            if key.endswith("parametrizations.weight.original0"):
                parameter.mul_(1.1)
        found = model(x)
        for layer in layers_of(model, WEIGHTED).values():
            parametrize.remove_parametrizations(layer, "weight")
        assert_equal(found, model(x))
        assert (found - expected).abs().max() > 1e-4

    @torch.no_grad()
    def test_pruning(self, name: str):
        model, x = small_backbone(name), small_images()
        before = model(x)
        for layer in layers_of(model, WEIGHTED).values():
            prune.random_unstructured(layer, "weight", amount=0.5)
        found = copy.deepcopy(model)(x)
        for layer in layers_of(model, WEIGHTED).values():
            prune.remove(layer, "weight")
        assert_equal(found, model(x))
        assert (found - before).abs().max() > 1e-4


def test_hooks_may_replace_outputs():
    model, x = small_backbone("van"), small_images()
    layer: Any = model.stages[0].blocks[0].mlp.fc1
    layer.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        found = model(x)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        assert_equal(found, model(x))
