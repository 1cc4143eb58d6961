"""Convolutions: with batch norms, and on channels-last maps, with faster paths for inference on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels.backends import exportable_operators_requested
from ...kernels.tracing import fx_leaf
from .fast_paths import can_bypass, is_eager_inference, is_unmodified, onednn_is_enabled
from .linear import linear_on_weight
from .padding import pad_bottom_right

__all__ = ["ConvNormAct", "apply_nhwc", "channels_last", "dilated_depthwise"]


def apply_nhwc(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Applies a layer for maps (B, C, H, W), such as a convolution or a batch norm, to a map (B, H, W, C).

    A 1x1 convolution is computed as the matrix product that it is, and a dilated depthwise one on a CPU by
    `dilated_depthwise`. All else, and layers that are hooked, wrapped, parametrized, quantized or traced, are called
    on the permuted map.
    """
    if can_bypass(layer, nn.Conv2d, x):
        assert isinstance(layer, nn.Conv2d)
        if _is_pointwise(layer):
            return linear_on_weight(x, layer.weight.flatten(1), layer.bias)
        if x.is_cpu and _is_dilated_depthwise(layer) and not exportable_operators_requested():
            return dilated_depthwise(x, layer)
    # Depthwise convolutions on a CPU take ten times as long on a slice of queries, keys and values as on a copy of it.
    return layer(x.contiguous().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@fx_leaf
def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Converts maps (B, C, H, W) to channels-last memory format, except in `torch.func`: vmap has no such format."""
    if torch._C._are_functorch_transforms_active():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def dilated_depthwise(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """Runs a dilated depthwise convolution without dilation, on each grid of rows and columns that it connects.

    With dilation d, a kernel sees from any position only those whose row and column have the same remainders modulo d.
    These form d * d small maps, on which the kernel is an ordinary one. CPU libraries have fast code for ordinary
    depthwise kernels only: at VAN's sizes this is 5 to 25 times as fast, and the sums are the same.

    Args:
        x: Maps (B, H, W, C).
        conv: Depthwise, with an odd square kernel, one dilation, stride 1, and padding that keeps the size.

    Returns:
        (B, H, W, C).
    """
    batch, height, width = x.shape[:3]
    step, reach = conv.dilation[0], conv.kernel_size[0] // 2
    rows, cols = -(-height // step), -(-width // step)
    x = pad_bottom_right(x, rows * step, cols * step)
    x = x.unflatten(1, (rows, step)).unflatten(3, (cols, step)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    x = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=reach, groups=conv.groups).permute(0, 2, 3, 1)
    x = x.unflatten(0, (batch, step, step)).permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return x[:, :height, :width]


def _is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution computes every position from that position alone, with all channels in one group."""
    return conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def _is_dilated_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution is one that `dilated_depthwise` can compute."""
    size, dilation = conv.kernel_size[0], conv.dilation[0]
    return (
        dilation > 1
        and size % 2 == 1
        and conv.groups == conv.in_channels == conv.out_channels
        and (conv.kernel_size, conv.dilation, conv.stride) == ((size, size), (dilation, dilation), (1, 1))
        and conv.padding == (size // 2 * dilation, size // 2 * dilation)
        and conv.padding_mode == "zeros"
    )


class ConvNormAct(nn.Module):
    """A convolution without bias (`conv`), a batch norm (`bn`) and an activation (`act`, in place if it supports that).

    In inference on a CPU, the batch norm is folded into the convolution's weights and bias on each call, so that the
    map is written once. Nothing is cached, so weights may change between calls. If the map has fewer positions than
    each output channel has weights, folding would be more work, and the output is normalized instead.

    Args:
        in_chans: Number of input channels.
        out_chans: Number of output channels.
        kernel_size: Side of the kernel.
        stride: Stride of the convolution.
        dilation: Dilation of the kernel.
        groups: Number of groups.
        act_layer: Builds the activation; None for no activation.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        act_layer: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.conv = nn.Conv2d(
            in_chans, out_chans, kernel_size, stride, padding, dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_chans)
        act: Any = nn.Identity() if act_layer is None else act_layer()
        if hasattr(act, "inplace"):
            # Safe under autograd: neither a batch norm nor a convolution needs its output for its gradient.
            act.inplace = True
        self.act: nn.Module = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride)), keeping the memory format."""
        if self._can_fold(x):
            return self.act(self._normalized(x))
        return self.act(self.bn(self.conv(x)))

    def add_to_(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Adds the layer's output for `x` to `total` in place and returns `total`. For inference only.

        Where possible, oneDNN adds each result while it is in cache, without writing an intermediate map.
        """
        conv = self.conv
        if (
            isinstance(self.act, nn.Identity)
            and self._can_fold(x)
            and not self._is_small(x)
            and onednn_is_enabled(x)
            and _CAN_ADD
            and total.dtype == x.dtype
            and total.is_contiguous(memory_format=torch.channels_last)
        ):
            weight, offset = self._folded()
            geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
            return torch.ops.mkldnn._convolution_pointwise_.binary(
                total, x, weight, offset, *geometry, "add", 1.0, None, [], None
            )
        return total.add_(self(x))

    def _can_fold(self, x: torch.Tensor) -> bool:
        """Whether convolution and batch norm are unmodified, in float32 or float64 inference on a CPU."""
        conv, bn = self.conv, self.bn
        return (
            is_eager_inference(x)
            and x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.float64)
            and is_unmodified(conv, nn.Conv2d)
            and is_unmodified(bn, nn.BatchNorm2d)
            and conv.weight.dtype == x.dtype
            and conv.bias is None
            and not bn.training
        )

    def _normalized(self, x: torch.Tensor) -> torch.Tensor:
        """Applies convolution and batch norm to (B, in_chans, H, W), folded unless the map is small."""
        conv, bn = self.conv, self.bn
        if self._is_small(x):
            # Converting large weights to oneDNN's channels-last layout costs more than converting a small map to
            # channels-first and back. The threshold was measured on an AMD CPU.
            if 8 * self._positions(x) < conv.weight[0].numel() and not x.is_contiguous():
                return bn(_convolve(conv, x.contiguous(), conv.weight).contiguous(memory_format=torch.channels_last))
            return bn(_convolve(conv, x, conv.weight))
        weight, offset = self._folded()
        return _convolve(conv, x, weight, offset)

    def _positions(self, x: torch.Tensor) -> int:
        """Returns the approximate number of positions of all output maps."""
        return x.shape[0] * (x.shape[2] // self.conv.stride[0]) * (x.shape[3] // self.conv.stride[1])

    def _is_small(self, x: torch.Tensor) -> bool:
        """Whether folding would be more work than normalizing the output."""
        return self._positions(x) < self.conv.weight[0].numel()

    def _folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns weight and bias of the convolution that equals convolution and batch norm."""
        bn = self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        factor = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        offset = torch.addcmul(bn.bias, bn.running_mean, factor, value=-1)
        return self.conv.weight * factor[:, None, None, None], offset


_CAN_ADD = hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


def _convolve(conv: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Runs `conv` with other weights.

    With one thread, PyTorch does not use oneDNN for 1x1 convolutions of small batches, which was measured to take twice
    oneDNN's time on an AMD CPU. So oneDNN is called directly where it is enabled.
    """
    if onednn_is_enabled(x):
        padding = cast("tuple[int, ...]", conv.padding)
        return torch.mkldnn_convolution(x, weight, bias, padding, conv.stride, conv.dilation, conv.groups)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
