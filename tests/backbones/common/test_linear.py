"""Linear layers and MLPs in inference: equal to the plain ones, and left alone where somebody looks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp as TimmMlp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones.common import linear
from attnzoo.backbones.common.linear import Linear, Mlp, add_by_images_, add_in_pieces_, takes_shortcuts

needs_onednn = pytest.mark.skipif(not linear._ONEDNN, reason="this build of PyTorch has no oneDNN for linear layers")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations of the layers that oneDNN has computed."""
    calls: list[str] = []
    original = linear._onednn_linear

    def spy(layer: nn.Linear, x: torch.Tensor, activation: str) -> torch.Tensor:
        calls.append(activation)
        return original(layer, x, activation)

    monkeypatch.setattr(linear, "_onednn_linear", spy)
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
        layer = Linear(12, 20, bias=bias)
        x = arrange(torch.randn(2, 7, 5, 12))
        with torch.no_grad():
            actual = layer(x)
        assert taken == ["none"]
        assert_close(actual, F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None))

    def test_it_is_a_linear_layer_in_name_and_values(self):
        torch.manual_seed(0)
        own = Linear(6, 4)
        torch.manual_seed(0)
        plain = nn.Linear(6, 4)
        plain.load_state_dict(own.state_dict())
        assert torch.equal(own.weight, plain.weight)
        x = torch.randn(3, 6)
        assert torch.equal(own(x), plain(x))

    def test_empty_batches_and_vectors(self):
        with torch.no_grad():
            assert Linear(6, 4)(torch.zeros(0, 6)).shape == (0, 4)
            assert Linear(6, 4)(torch.zeros(6)).shape == (4,)

    @pytest.mark.filterwarnings("ignore:TF32 acceleration")
    @pytest.mark.parametrize("case", ["gradient", "float64", "bfloat16", "autocast", "unwanted", "counted", "vmap"])
    def test_stays_plain_where_it_must(self, case: str, taken: list[str]):
        layer, x = Linear(6, 4), torch.randn(2, 3, 6)
        if case == "gradient":
            layer(x).sum().backward()
            assert layer.weight.grad is not None
        else:
            with torch.no_grad():
                if case in ("float64", "bfloat16"):
                    dtype = getattr(torch, case)
                    assert layer.to(dtype)(x.to(dtype)).dtype == dtype
                elif case == "autocast":
                    with torch.autocast("cpu", torch.bfloat16):
                        assert layer(x).dtype == torch.bfloat16
                elif case == "unwanted":
                    with torch.backends.mkldnn.flags(enabled=False):
                        layer(x)
                elif case == "counted":
                    with FlopCounterMode(display=False) as counter:
                        layer(x)
                    assert counter.get_total_flops() == 2 * 6 * 4 * 6
                else:
                    torch.func.vmap(layer)(x)
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


class TestBranches:
    def test_pieces_make_the_whole(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(linear, "_LEAST_POSITIONS", 2)
        monkeypatch.setattr(linear, "_PIECE_BYTES", 4 * 8 * 9 // torch.get_num_threads())
        x = torch.randn(2, 5, 3, 8)
        expected = x + x.sin()
        sizes = []

        def branch(piece: torch.Tensor) -> torch.Tensor:
            sizes.append(len(piece))
            return piece.sin()

        assert add_in_pieces_(x, branch, width=8) is x
        torch.testing.assert_close(x, expected)
        assert sum(sizes) == 30
        assert len(sizes) == 4  # of at most 9 positions each
        assert max(sizes) - min(sizes) <= 1

    def test_images_of_as_many_as_there_are_threads(self, monkeypatch: pytest.MonkeyPatch):
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

    def test_shortcuts_are_taken_where_nobody_looks_on(self):
        block, x = nn.Sequential(mlp()).eval(), torch.randn(2, 12)
        assert not takes_shortcuts(block, x)  # gradients
        with torch.no_grad():
            assert takes_shortcuts(block, x)
            assert not takes_shortcuts(block.train(), x)
            assert not takes_shortcuts(block.eval(), x.to("meta"))
            with torch.autocast("cpu", torch.bfloat16):
                assert not takes_shortcuts(block, x)
            with FlopCounterMode(display=False):
                assert not takes_shortcuts(block, x)
            for register in ("register_forward_hook", "register_forward_pre_hook"):
                handle = getattr(block.get_submodule("0.act"), register)(lambda *args: None)
                assert not takes_shortcuts(block, x)
                handle.remove()
            handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
            assert not takes_shortcuts(block, x)
            handle.remove()
            assert takes_shortcuts(block, x)
