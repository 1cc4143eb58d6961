"""torch.func on a model of every family: gradients, gradients per sample, ensembles and forward mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from support.slow import slow_except
from support.small_backbones import MODELS, OTHER_BODIES, small_backbone, small_images


def parameters_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def loss_of(model: torch.nn.Module) -> Any:
    return lambda parameters, x: functional_call(model, parameters, (x,)).square().sum()


def assert_gradients(found: dict[str, torch.Tensor], model: torch.nn.Module, x: torch.Tensor) -> None:
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    largest = max(float(one.abs().max()) for one in expected)
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("name", [*MODELS, *slow_except(list(OTHER_BODIES), ())])
def test_gradients(name: str):
    model, x = small_backbone(name), small_images()
    assert_gradients(grad(loss_of(model))(parameters_of(model), x), model, x)


@pytest.mark.parametrize("name", list(MODELS))
def test_gradients_per_sample(name: str):
    model, x = small_backbone(name), small_images(3)
    loss = loss_of(model)
    per_sample = vmap(grad(lambda parameters, image: loss(parameters, image[None])), (None, 0))(parameters_of(model), x)
    assert_gradients({key: value[1] for key, value in per_sample.items()}, model, x[1:2])


@pytest.mark.parametrize("name", [*MODELS, *slow_except(list(OTHER_BODIES), ())])
def test_mapped_inference(name: str):
    model, x = small_backbone(name), small_images(4).view(2, 2, 3, 37, 32)
    with torch.no_grad():
        torch.testing.assert_close(vmap(model)(x).flatten(0, 1), model(x.flatten(0, 1)), rtol=1e-4, atol=1e-5)


def test_ensembles():
    models = [small_backbone("nat") for _ in range(2)]
    torch.nn.init.normal_(models[1].head.fc.weight)
    torch.nn.init.normal_(models[1].stages[0].blocks[0].attn.rpb)
    state, x = stack_module_state(models), small_images()
    found = vmap(lambda state: functional_call(models[0], state, (x,)))(state)
    torch.testing.assert_close(found, torch.stack([model(x) for model in models]), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("name", ["agent_swin", "biformer", "nat", "van"])
def test_forward_mode(name: str):
    model = small_backbone(name).double()
    x = small_images().double()
    out, tangent = jvp(model, (x,), (x.cos(),))[:2]
    with torch.no_grad():
        torch.testing.assert_close(out, model(x))
        difference = (model(x + 1e-5 * x.cos()) - model(x - 1e-5 * x.cos())) / 2e-5
    torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-7)
