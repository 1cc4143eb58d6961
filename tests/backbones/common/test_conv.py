"""Convolutions with batch norms, and the gates over channels: the fast ways equal the plain ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import EcaModule, SEModule  # pyright: ignore[reportPrivateImportUsage]  # they are public
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.backbones.common import conv as convolution
from attnzoo.backbones.common.channel_attention import EfficientChannelAttention, SqueezeExcite, adaptive_kernel_size
from attnzoo.backbones.common.conv import ConvNormAct, is_plain_inference


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


class TestEfficientChannelAttention:
    def test_adaptive_sizes_are_timms(self):
        for channels in (1, 3, 16, 24, 64, 96, 128, 256, 320, 512, 1024, 1280, 2048, 4096):
            assert adaptive_kernel_size(channels) == EcaModule(channels).conv.kernel_size[0]
        assert [adaptive_kernel_size(channels) for channels in (64, 256, 512, 1024, 2048)] == [3, 5, 5, 5, 7]

    @pytest.mark.parametrize("channels_last", [False, True])
    def test_equals_timms(self, channels_last: bool):
        own, other = EfficientChannelAttention(24, 5), EcaModule(kernel_size=5)
        other.load_state_dict(own.state_dict())
        x = torch.randn(2, 24, 5, 7)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        shortcut = torch.randn_like(x)
        expected = other(x).detach()
        torch.testing.assert_close(own(x), expected)
        torch.testing.assert_close(own(x, shortcut), expected + shortcut)
        with torch.no_grad():
            torch.testing.assert_close(own(x), expected)
            kept = shortcut.clone()
            out = own(x, shortcut)
            torch.testing.assert_close(out, expected + kept)
            assert out is x
            assert torch.equal(shortcut, kept)

    def test_shortcuts_of_another_type(self):
        own = EfficientChannelAttention(4)
        x, shortcut = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3, dtype=torch.float64)
        with torch.no_grad():
            assert own(x, shortcut).dtype == torch.float64

    def test_gradients(self):
        own = EfficientChannelAttention(6).double()
        x, shortcut = torch.randn(2, 2, 6, 3, 3, dtype=torch.float64, requires_grad=True).unbind()
        assert torch.autograd.gradcheck(own, (x, shortcut))

    @pytest.mark.parametrize("size", [0, 2, 3.0])
    def test_sizes_are_odd(self, size: Any):
        with pytest.raises(ValueError, match="kernel_size must be"):
            EfficientChannelAttention(8, size)


def test_squeeze_and_excitation_is_timms():
    own = SqueezeExcite(16, 4)
    other = SEModule(16, rd_channels=4)
    other.load_state_dict(own.state_dict())
    x = torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(own(x), other(x))


def test_plain_inference_is_asked_on_any_device():
    with torch.no_grad():
        assert is_plain_inference(torch.empty(1, device="meta"))
        assert not is_plain_inference(nn.Parameter(torch.empty(1)))
    assert not is_plain_inference(torch.empty(1))
