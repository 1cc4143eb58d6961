"""Convolutions with batch norms and on channels-last maps: the fast paths equal the layers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones.common import conv as convolution
from attnzoo.backbones.common.conv import ConvNormAct, apply_nhwc, dilated_depthwise


def layer(in_chans: int = 6, out_chans: int = 8, kernel_size: int = 3, stride: int = 1, **kwargs: Any) -> ConvNormAct:
    """A layer whose batch norm has something to do."""
    torch.manual_seed(0)
    made = ConvNormAct(in_chans, out_chans, kernel_size, stride, **kwargs)
    with torch.no_grad():
        made.bn.weight.normal_()
        made.bn.bias.normal_()
        assert made.bn.running_mean is not None
        assert made.bn.running_var is not None
        made.bn.running_mean.normal_()
        made.bn.running_var.uniform_(0.5, 2.0)
    return made.eval()


def plain(made: ConvNormAct, x: torch.Tensor) -> torch.Tensor:
    """What the layer stands for."""
    conv, bn = made.conv, made.bn
    x = F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
    return made.act(F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)).detach()


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Collects, for each convolution of a shortcut, whether it had the batch norm's offset as its bias."""
    seen: list[bool] = []
    convolve = convolution._convolve

    def spy(conv: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(bias is not None)
        return convolve(conv, x, weight, bias)

    monkeypatch.setattr(convolution, "_convolve", spy)
    return seen


class TestConvNormAct:
    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"kernel_size": 1},
            {"kernel_size": 1, "stride": 2, "act_layer": None},
            {"kernel_size": 7, "stride": 2},
            {"dilation": 2, "act_layer": nn.ReLU6},
            {"groups": 2, "act_layer": nn.SiLU},
        ],
    )
    def test_folding_changes_no_value(
        self, arguments: dict[str, Any], dtype: torch.dtype, channels_last: bool, folded: list[bool]
    ):
        made = layer(**arguments).to(dtype)
        x = torch.randn(2, 6, 17, 14, dtype=dtype)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        given = x.clone()
        with torch.no_grad():
            found = made(x)
        assert folded == [
            x[:, 0, :: made.conv.stride[0], :: made.conv.stride[1]].numel() >= made.conv.weight[0].numel()
        ]
        torch.testing.assert_close(found, plain(made, x))
        assert torch.equal(x, given)
        if channels_last:
            assert found.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize(
        ("arguments", "fuses"),
        [
            ({}, True),
            ({"kernel_size": 1}, True),
            ({"kernel_size": 1, "stride": 2}, True),
            ({"groups": 2}, True),
            ({"kernel_size": 7}, False),  # too small a map for its weights
            ({"act_layer": nn.ReLU}, False),
        ],
    )
    def test_sums_are_written_in_place(self, arguments: dict[str, Any], fuses: bool, folded: list[bool]):
        made = layer(**{"act_layer": None, **arguments})
        x = torch.randn(2, 6, 10, 13).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            expected = plain(made, x)
            total = torch.randn_like(expected).contiguous(memory_format=torch.channels_last)
            for given in (total, total.contiguous(), total.double()):
                before, given_x = given.clone(), x.clone()
                del folded[:]
                found = made.add_to_(given, x)
                assert found.data_ptr() == given.data_ptr()
                torch.testing.assert_close(given.float(), (before + expected).float())
                assert torch.equal(x, given_x)
                assert (not folded) == (fuses and given is total)

    def test_small_maps_are_normalised_as_they_stand(self, folded: list[bool]):
        made = layer(kernel_size=3)
        x = torch.randn(1, 6, 6, 6)
        with torch.no_grad():
            torch.testing.assert_close(made(x), plain(made, x))
            torch.testing.assert_close(made(x.repeat(2, 1, 1, 1)), plain(made, x).repeat(2, 1, 1, 1))
        assert folded == [False, True]

    def test_tiny_maps_keep_their_order_in_memory(self, folded: list[bool]):
        made = layer(64, 4, kernel_size=3)
        x = torch.randn(1, 64, 5, 7).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            found = made(x)
        torch.testing.assert_close(found, plain(made, x))
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert folded == [False]

    def test_no_state_is_kept(self):
        made = layer()
        before = {name: value.clone() for name, value in made.state_dict().items()}
        x = torch.randn(2, 6, 9, 9)
        with torch.no_grad():
            first = made(x)
            made.conv.weight.mul_(2)
            assert made.bn.running_mean is not None
            made.bn.running_mean.mul_(2)
            torch.testing.assert_close(made(x), plain(made, x))
            made.load_state_dict(before)
            assert torch.equal(made(x), first)
        assert made.state_dict().keys() == before.keys()

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
    def test_only_undisturbed_inference_takes_the_shortcut(self, folded: list[bool]):
        made = layer()
        x = torch.randn(2, 6, 9, 9)
        expected = plain(made, x)
        with torch.no_grad():
            made(x)
            assert folded.pop()
        torch.testing.assert_close(made(x), expected)
        made(x).sum().backward()
        assert made.bn.weight.grad is not None
        with torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                made(x)
            assert counter.get_total_flops() == 2 * expected.numel() * made.conv.weight[0].numel()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert made(x).dtype == torch.bfloat16
            assert copy.deepcopy(made).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
            torch.testing.assert_close(torch.func.vmap(made)(x[None])[0], expected)
            traced: Any = torch.jit.trace(made, x, check_trace=False)
            torch.testing.assert_close(traced(x), expected)
            torch.testing.assert_close(torch.fx.symbolic_trace(made)(x), expected)
            assert made.to("meta")(x.to("meta")).shape == expected.shape
        assert not folded

    def test_hooks_see_what_they_ask_for(self, folded: list[bool]):
        made = layer()
        x = torch.randn(2, 6, 9, 9)
        seen: list[torch.Tensor] = []
        made.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
        with torch.no_grad():
            made(x)
            torch.testing.assert_close(seen[0], made.conv(x))
        assert not folded

    def test_training_uses_the_batch(self):
        made = layer().train()
        x = torch.randn(4, 6, 9, 9)
        assert made.bn.running_mean is not None
        before = made.bn.running_mean.clone()
        with torch.no_grad():
            found = made(x)
        assert not torch.equal(made.bn.running_mean, before)
        expected = F.relu(F.batch_norm(made.conv(x), None, None, made.bn.weight, made.bn.bias, True))
        torch.testing.assert_close(found, expected)

    def test_frozen_norms_fold_in_a_model_that_trains(self, folded: list[bool]):
        made = layer().train()
        made.bn.eval()
        with torch.no_grad():
            made(torch.randn(2, 6, 9, 9))
        assert folded == [True]

    @pytest.mark.parametrize("act_layer", [nn.ReLU, nn.SiLU])
    def test_gradients(self, act_layer: type[nn.Module]):
        made = layer(4, 4, act_layer=act_layer).double()
        x = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
        for training in (False, True):
            assert torch.autograd.gradcheck(made.train(training), (x,))

    def test_without_onednn(self, monkeypatch: pytest.MonkeyPatch):
        made = layer()
        x = torch.randn(2, 6, 9, 9)
        asked: list[bool] = []
        monkeypatch.setattr(torch, "mkldnn_convolution", lambda *args: asked.append(True))
        with torch.no_grad():
            assert made(x[:0]).shape == (0, 8, 9, 9)
            assert not asked
            made.act = nn.Identity()
            made(x)
            assert asked == [True]
            monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
            torch.testing.assert_close(made(x), plain(made, x))
        assert asked == [True]

    def test_exported_and_compiled_layers_are_plain(self, folded: list[bool]):
        made = layer()
        x = torch.randn(2, 6, 9, 9)
        with torch.no_grad():
            exported = torch.export.export(made, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
            torch.testing.assert_close(
                exported.module()(x.repeat(3, 1, 1, 1)[:5]), plain(made, x).repeat(3, 1, 1, 1)[:5]
            )
            compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
            torch.testing.assert_close(compiled(x), plain(made, x))
        assert not folded


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel_size": 1},
    "pointwise, stride 2": {"kernel_size": 1, "stride": 2},
    "dense": {"kernel_size": 3, "padding": 1},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 6},
    "dilated depthwise": {"kernel_size": 5, "padding": 6, "dilation": 3, "groups": 6},
    "dilated depthwise, unpadded": {"kernel_size": 3, "dilation": 2, "groups": 6},
    "dilated depthwise, circular": {
        "kernel_size": 3, "padding": 2, "dilation": 2, "groups": 6, "padding_mode": "circular"
    },
}  # fmt: skip


class TestApplyNhwc:
    @pytest.mark.parametrize("grad", [False, True])
    @pytest.mark.parametrize("name", list(CONVOLUTIONS))
    def test_equals_the_layer(self, name: str, grad: bool):
        torch.manual_seed(0)
        conv = nn.Conv2d(6, 6, **CONVOLUTIONS[name])
        for x in (torch.randn(2, 9, 8, 6), torch.randn(2, 9, 8, 18)[..., 6:12]):
            expected = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(apply_nhwc(conv, x), expected)

    @pytest.mark.parametrize("name", ["pointwise", "dilated depthwise"])
    def test_hooks_and_replaced_layers_are_called(self, name: str):
        conv, x, seen = nn.Conv2d(6, 6, **CONVOLUTIONS[name]), torch.randn(1, 9, 8, 6), []
        assert not seen
        handle = conv.register_forward_hook(lambda *args: seen.append("hook"))
        apply_nhwc(conv, x)
        handle.remove()

        class Doubled(nn.Conv2d):
            def forward(self, input: torch.Tensor) -> torch.Tensor:
                return 2 * super().forward(input)

        doubled = Doubled(6, 6, **CONVOLUTIONS[name])
        doubled.load_state_dict(conv.state_dict())
        torch.testing.assert_close(apply_nhwc(doubled, x), 2 * apply_nhwc(conv, x))
        assert seen == ["hook"]

    @pytest.mark.parametrize("name", ["pointwise", "dilated depthwise"])
    def test_fx_and_functorch_see_the_layer(self, name: str):
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(6, 6, **CONVOLUTIONS[name])

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return apply_nhwc(self.conv, x)

        model, x = Model(), torch.randn(2, 9, 8, 6)
        expected = model(x)
        traced = torch.fx.symbolic_trace(model)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["conv"]
        torch.testing.assert_close(traced(x), expected)
        torch.testing.assert_close(torch.func.vmap(model)(x[:, None])[:, 0], expected)

    @pytest.mark.parametrize("name", ["pointwise", "dilated depthwise"])
    def test_compiled_and_exported(self, name: str):
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(6, 6, **CONVOLUTIONS[name])

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return apply_nhwc(self.conv, x)

        model, x = Model(), torch.randn(2, 9, 8, 6)
        expected = model(x)
        torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)

    def test_batch_norms(self):
        norm, x = nn.BatchNorm2d(6), torch.randn(2, 9, 8, 6)
        torch.testing.assert_close(apply_nhwc(norm, x).mean((0, 1, 2)), torch.zeros(6), atol=1e-6, rtol=0)

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (9, 6), (13, 10)])
    @pytest.mark.parametrize("dilation", [2, 3])
    def test_dilated_depthwise_is_the_convolution(self, height: int, width: int, dilation: int):
        torch.manual_seed(0)
        conv = nn.Conv2d(6, 6, 5, padding=2 * dilation, dilation=dilation, groups=6).double()
        x = torch.randn(2, height, width, 6, dtype=torch.float64, requires_grad=True)
        expected = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        actual = dilated_depthwise(x, conv)
        torch.testing.assert_close(actual, expected)
        weights = torch.randn_like(expected)
        given = [x, *conv.parameters()]
        grads = [torch.autograd.grad((out * weights).sum(), given) for out in (actual, expected)]
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other)
