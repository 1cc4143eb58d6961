"""Fast paths are taken in eager inference on unmodified layers, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones.common import fast_paths
from attnzoo.backbones.common.fast_paths import (
    add_by_images_,
    add_in_chunks_,
    can_bypass,
    can_run_in_place,
    is_eager_inference,
    is_unmodified,
    onednn_is_enabled,
)
from attnzoo.backbones.common.linear import Mlp


def wrap_forward(layer: nn.Module) -> None:
    forward = layer.forward
    layer.forward = lambda *args: forward(*args)


def set_tensor_subclass(layer: nn.Module) -> None:
    class Quantized(nn.Parameter):
        pass

    layer.weight = Quantized(torch.zeros(4, 6))


MODIFICATIONS: dict[str, Callable[[nn.Module], Any]] = {
    "forward hook": lambda layer: layer.register_forward_hook(lambda *args: None),
    "forward pre-hook": lambda layer: layer.register_forward_pre_hook(lambda *args: None),
    "backward hook": lambda layer: layer.register_full_backward_hook(lambda *args: None),
    "backward pre-hook": lambda layer: layer.register_full_backward_pre_hook(lambda *args: None),
    "parametrization": lambda layer: parametrizations.spectral_norm(layer),
    "wrapped forward": wrap_forward,
    "tensor subclass": set_tensor_subclass,
}


class TestUnmodified:
    def test_layers_of_torch(self):
        assert is_unmodified(nn.Linear(6, 4), nn.Linear)
        assert is_unmodified(nn.Linear(6, 4, bias=False), nn.Linear)
        assert not is_unmodified(nn.Linear(6, 4), nn.Conv2d)
        assert not is_unmodified(type("Subclass", (nn.Linear,), {})(6, 4), nn.Linear)

    @pytest.mark.parametrize("name", list(MODIFICATIONS))
    def test_modified_layers(self, name: str):
        layer = nn.Linear(6, 4)
        MODIFICATIONS[name](layer)
        assert not is_unmodified(layer, nn.Linear)
        assert not can_bypass(layer, nn.Linear, torch.randn(3, 6))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*quantiz")
    def test_dynamically_quantized_layers(self):
        model = torch.ao.quantization.quantize_dynamic(Mlp(6, 8).eval(), {nn.Linear}, dtype=torch.qint8)
        assert type(model.fc1) is not nn.Linear
        assert not is_unmodified(model.fc1, nn.Linear)
        with torch.no_grad():
            assert model(torch.randn(3, 6)).shape == (3, 6)

    def test_global_hooks(self):
        handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
        assert not is_unmodified(nn.Linear(6, 4), nn.Linear)
        handle.remove()
        assert is_unmodified(nn.Linear(6, 4), nn.Linear)

    def test_functional_call(self):
        class Probe(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(2, 2)

            def forward(self, x: torch.Tensor) -> bool:
                return is_unmodified(self.layer, nn.Linear)

        probe = Probe()
        assert probe(torch.zeros(1))
        weights = {name: value.detach() for name, value in probe.named_parameters()}
        assert not torch.func.functional_call(probe, weights, (torch.zeros(1),))


class TestBypass:
    def test_gradients_may_flow_through_the_other_operation(self):
        assert can_bypass(nn.Linear(6, 4), nn.Linear, torch.randn(3, 6))
        assert can_bypass(nn.Linear(6, 4), nn.Linear, torch.randn(3, 6, requires_grad=True))

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
    def test_tracers_see_the_layer(self):
        seen: list[bool] = []

        class Probe(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(6, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                seen.append(can_bypass(self.layer, nn.Linear, x))
                return self.layer(x)

        model = Probe()
        torch.func.vmap(model)(torch.randn(2, 3, 6))
        torch.jit.trace(model, torch.randn(2, 6), check_trace=False)
        torch.fx.symbolic_trace(model)
        assert seen == [False] * 3
        model(torch.randn(2, 6))
        assert seen.pop()


class TestEagerInference:
    def test_what_ends_it(self):
        x = torch.zeros(2)
        assert not is_eager_inference(x)  # autograd is on
        with torch.no_grad():
            assert is_eager_inference(x)
            assert is_eager_inference(torch.empty(1, device="meta"))
            assert not is_eager_inference(nn.Parameter(x))
            with torch.autocast("cpu", torch.bfloat16):
                assert not is_eager_inference(x)
            with FlopCounterMode(display=False):
                assert not is_eager_inference(x)

    def test_onednn(self):
        assert not onednn_is_enabled(torch.zeros(2, dtype=torch.float64))
        assert not onednn_is_enabled(torch.zeros(0))
        assert not onednn_is_enabled(torch.empty(2, device="meta"))
        with torch.backends.mkldnn.flags(enabled=False):
            assert not onednn_is_enabled(torch.zeros(2))


class TestInPlace:
    def test_chunks_give_what_the_branch_gives(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(fast_paths, "_MIN_CHUNK_POSITIONS", 2)
        monkeypatch.setattr(fast_paths, "_CHUNK_BYTES", 4 * 8 * 9 // torch.get_num_threads())
        x = torch.randn(2, 5, 3, 8)
        expected = x + x.sin()
        sizes = []

        def branch(chunk: torch.Tensor) -> torch.Tensor:
            sizes.append(len(chunk))
            return chunk.sin()

        assert add_in_chunks_(x, branch, width=8) is x
        torch.testing.assert_close(x, expected)
        assert sum(sizes) == 30
        assert len(sizes) == 4  # of at most 9 positions each
        assert max(sizes) - min(sizes) <= 1

    def test_one_image_per_thread(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        x = torch.randn(5, 2, 5, 4)
        expected = x + x.mean((1, 2), keepdim=True)
        sizes = []

        def branch(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return images.mean((1, 2), keepdim=True).expand_as(images)

        assert add_by_images_(x, branch) is x
        torch.testing.assert_close(x, expected)
        assert sizes == [2, 2, 1]

    def test_hooks_autograd_and_training_prevent_it(self):
        block, x = nn.Sequential(Mlp(12, 40)).eval(), torch.randn(2, 12)
        assert not can_run_in_place(block, x)  # gradients
        with torch.no_grad():
            assert can_run_in_place(block, x)
            assert not can_run_in_place(block.train(), x)
            assert not can_run_in_place(block.eval(), x.to("meta"))
            with torch.autocast("cpu", torch.bfloat16):
                assert not can_run_in_place(block, x)
            with FlopCounterMode(display=False):
                assert not can_run_in_place(block, x)
            for register in ("register_forward_hook", "register_forward_pre_hook"):
                handle = getattr(block.get_submodule("0.act"), register)(lambda *args: None)
                assert not can_run_in_place(block, x)
                handle.remove()
            handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
            assert not can_run_in_place(block, x)
            handle.remove()
            assert can_run_in_place(block, x)
