"""Linear layers and MLPs: the oneDNN path equals the plain one, and steps aside for layers that are not plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp as TimmMlp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones.common import linear as linear_module
from attnzoo.backbones.common.linear import Mlp, linear, linear_on_weight

needs_onednn = pytest.mark.skipif(
    not linear_module._ONEDNN, reason="this build of PyTorch has no oneDNN for linear layers"
)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations of the layers that oneDNN has computed."""
    calls: list[str] = []
    original = linear_module._onednn_linear

    def spy(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
        calls.append(activation)
        return original(x, weight, bias, activation)

    monkeypatch.setattr(linear_module, "_onednn_linear", spy)
    return calls


def assert_close(actual: torch.Tensor, exact: torch.Tensor) -> None:
    """Holds float32 against the same in float64."""
    assert actual.shape == exact.shape
    assert ((actual - exact).norm() / exact.norm()).item() < 1e-6


def mlp(**kwargs: Any) -> Mlp:
    torch.manual_seed(0)
    return Mlp(12, 40, **kwargs).eval()


class TestLinear:
    @needs_onednn
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize(
        "arrange",
        [
            lambda x: x,
            lambda x: x[:, 1:6, 2:5],
            lambda x: x.flatten(0, 2),
            lambda x: x.transpose(1, 2),
            lambda x: x[0, 0, :1],
        ],
    )
    def test_equals_the_plain_layer(self, bias: bool, arrange: Callable[[torch.Tensor], torch.Tensor], taken: list):
        torch.manual_seed(0)
        layer = nn.Linear(12, 20, bias=bias)
        x = arrange(torch.randn(2, 7, 5, 12))
        with torch.no_grad():
            actual = linear(layer, x)
        assert taken == ["none"]
        assert_close(actual, F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None))

    def test_empty_batches_and_vectors(self):
        with torch.no_grad():
            assert linear(nn.Linear(6, 4), torch.zeros(0, 6)).shape == (0, 4)
            assert linear(nn.Linear(6, 4), torch.zeros(6)).shape == (4,)

    def test_other_modules_are_called(self):
        x = torch.randn(3, 6)
        with torch.no_grad():
            assert linear(nn.Identity(), x) is x

    @needs_onednn
    def test_weights_of_another_layer(self, taken: list[str]):
        weight, bias, x = torch.randn(4, 6), torch.randn(4), torch.randn(3, 6)
        plain = F.linear(x, weight, bias)
        with torch.no_grad():
            torch.testing.assert_close(linear_on_weight(x, weight, bias), plain)
            assert taken == ["none"]
            double = linear_on_weight(x.double(), weight.double(), None)
            torch.testing.assert_close(double, F.linear(x.double(), weight.double()))
        weight.requires_grad_()
        linear_on_weight(x, weight, bias).sum().backward()
        assert weight.grad is not None
        assert taken == ["none"]

    @pytest.mark.filterwarnings("ignore:TF32 acceleration")
    @pytest.mark.parametrize("case", ["gradient", "float64", "bfloat16", "autocast", "disabled", "counted", "vmap"])
    def test_calls_the_layer_where_it_must(self, case: str, taken: list[str]):
        layer, x = nn.Linear(6, 4), torch.randn(2, 3, 6)
        if case == "gradient":
            linear(layer, x).sum().backward()
            assert layer.weight.grad is not None
        else:
            with torch.no_grad():
                if case in ("float64", "bfloat16"):
                    dtype = getattr(torch, case)
                    assert linear(layer.to(dtype), x.to(dtype)).dtype == dtype
                elif case == "autocast":
                    with torch.autocast("cpu", torch.bfloat16):
                        assert linear(layer, x).dtype == torch.bfloat16
                elif case == "disabled":
                    with torch.backends.mkldnn.flags(enabled=False):
                        linear(layer, x)
                elif case == "counted":
                    with FlopCounterMode(display=False) as counter:
                        linear(layer, x)
                    assert counter.get_total_flops() == 2 * 6 * 4 * 6
                else:
                    torch.func.vmap(lambda x: linear(layer, x))(x)
        assert not taken

    def test_compiled_exported_and_traced_as_the_plain_layer(self, taken: list[str]):
        model, x = mlp(), torch.randn(3, 12)
        with torch.no_grad():
            torch.compile(model, backend="eager", fullgraph=True)(x)
            exported = torch.export.export(model, (x,))
            torch.fx.symbolic_trace(model)(x)
        assert not taken
        targets = {str(node.target) for node in exported.graph.nodes}
        assert {"aten.linear.default", "aten.gelu.default"} <= targets


class TestMlp:
    @needs_onednn
    @pytest.mark.parametrize("kwargs", [{}, {"bias": False}, {"out_features": 7}, {"drop": 0.5}])
    def test_equals_the_plain_layers(self, kwargs: dict[str, Any], taken: list[str]):
        model = mlp(**kwargs)
        x = 3 * torch.randn(2, 5, 4, 12)
        with torch.no_grad():
            actual = model(x)
        assert taken == ["gelu", "none"]
        exact = model.double()
        assert_close(actual, exact.fc2(F.gelu(exact.fc1(x.double()))))

    @needs_onednn
    def test_other_activations_are_not_taken_for_gelu(self, taken: list[str]):
        for act_layer in (nn.ReLU, lambda: nn.GELU("tanh")):
            model, x = mlp(act_layer=act_layer), torch.randn(4, 12)
            with torch.no_grad():
                assert_close(model(x), model.fc2(model.act(model.fc1(x))).double())
        assert "gelu" not in taken

    @pytest.mark.parametrize("part", ["fc1", "act", "drop1", "fc2", "drop2"])
    def test_hooks_see_every_part(self, part: str):
        model, x = mlp(), torch.randn(4, 12)
        seen: list[Any] = []
        model.get_submodule(part).register_forward_hook(lambda module, args, out: seen.append(out))
        with torch.no_grad():
            model(x)
            parts = {"fc1": model.fc1(x), "fc2": model(x)}
        (first, *_) = seen
        expected = F.gelu(parts["fc1"]) if part in ("act", "drop1") else parts.get(part, parts["fc2"])
        torch.testing.assert_close(first, expected)

    def test_dropout_in_training(self):
        model = mlp(drop=0.5).train()
        x = torch.randn(64, 12)
        with torch.no_grad():
            assert not torch.equal(model(x), model(x))

    def test_names_are_timms(self):
        x = torch.randn(5, 12)
        theirs = TimmMlp(12, 40).eval()
        assert mlp().state_dict().keys() == theirs.state_dict().keys()
        theirs.load_state_dict(mlp().state_dict())
        torch.testing.assert_close(mlp()(x), theirs(x))
