"""Convolutions with batch norms, of the families that are convolutional networks or begin as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch._C._functorch import peek_interpreter_stack
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["ConvNormAct", "is_plain_inference"]


def is_plain_inference(x: torch.Tensor) -> bool:
    """Says whether what is done to `x` is inference in eager mode that nobody traces, counts or differentiates.

    Shortcuts that give equal results by other operations, or that write over maps, are taken here alone: torch.compile,
    torch.export, FX, `torch.func`, autocast and modes such as `FlopCounterMode` see the plain operations.
    """
    if torch.compiler.is_compiling() or type(x) is not torch.Tensor:
        return False
    kind = x.device.type
    return not (
        torch.is_grad_enabled()
        or (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind))
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  # it is public
        or is_in_torch_dispatch_mode()
        or peek_interpreter_stack() is not None
    )


class ConvNormAct(nn.Module):
    """A convolution without bias (`conv`), a batch norm (`bn`) and an activation (`act`, in place where it can be).

    In inference on a CPU the batch norm's factor is multiplied into the weights on each call, and its offset becomes
    the convolution's bias, so that the map is written once. That keeps no state: weights may change between calls. A
    map of fewer positions than each output channel has weights is normalised as it stands, which is then less work.

    Args:
        in_chans: channels of the input.
        out_chans: channels of the output.
        kernel_size: side of the kernel.
        stride: of the convolution.
        dilation: of the kernel.
        groups: of the convolution.
        act_layer: makes the activation; None for none.
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
            # Neither a batch norm's nor a convolution's gradient needs what it returned.
            act.inplace = True
        self.act: nn.Module = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride)); channels last stays so."""
        if self._can_fold(x):
            return self.act(self._normalised(x))
        return self.act(self.bn(self.conv(x)))

    def add_to_(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Adds what the layer makes of `x` to `total`, in place, and gives it; for inference (`is_plain_inference`).

        Where it can, oneDNN adds while a result is in cache, and no map is written between.
        """
        conv = self.conv
        if (
            isinstance(self.act, nn.Identity)
            and self._can_fold(x)
            and not self._is_small(x)
            and _is_for_onednn(x)
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
        """Says whether convolution and batch norm are the plain modules, in float32 or float64 inference on a CPU."""
        conv, bn = self.conv, self.bn
        return (
            is_plain_inference(x)
            and x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.float64)
            and conv.weight.dtype == x.dtype
            and type(conv) is nn.Conv2d
            and type(bn) is nn.BatchNorm2d
            and not bn.training
            and not (conv._forward_hooks or conv._forward_pre_hooks or bn._forward_hooks or bn._forward_pre_hooks)
        )

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves and normalises (B, in_chans, H, W), one of them after the other or both at once."""
        conv, bn = self.conv, self.bn
        if self._is_small(x):
            # Bringing large weights into oneDNN's order for channels that come last costs more than the small map's
            # way to the other order and back; where the switch pays was measured on an AMD CPU.
            if 8 * self._positions(x) < conv.weight[0].numel() and not x.is_contiguous():
                return bn(_convolve(conv, x.contiguous(), conv.weight).contiguous(memory_format=torch.channels_last))
            return bn(_convolve(conv, x, conv.weight))
        weight, offset = self._folded()
        return _convolve(conv, x, weight, offset)

    def _positions(self, x: torch.Tensor) -> int:
        """Number of positions of all output maps together, about."""
        return x.shape[0] * (x.shape[2] // self.conv.stride[0]) * (x.shape[3] // self.conv.stride[1])

    def _is_small(self, x: torch.Tensor) -> bool:
        """Says whether folding would be more work than normalising the output."""
        return self._positions(x) < self.conv.weight[0].numel()

    def _folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives the weight and the bias of convolution and batch norm as one convolution."""
        bn = self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        factor = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        offset = torch.addcmul(bn.bias, bn.running_mean, factor, value=-1)
        return self.conv.weight * factor[:, None, None, None], offset


_CAN_ADD = hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


def _is_for_onednn(x: torch.Tensor) -> bool:
    """Says whether oneDNN can be asked for by name, and is wanted."""
    return (
        x.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _convolve(conv: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolves as `conv` does, with other weights.

    With one thread, PyTorch gives 1x1 convolutions of small batches to another library than oneDNN, which was measured
    to take twice oneDNN's time on an AMD CPU. So oneDNN is asked for by name where it is there and wanted.
    """
    if _is_for_onednn(x):
        padding = cast("tuple[int, ...]", conv.padding)
        return torch.mkldnn_convolution(x, weight, bias, padding, conv.stride, conv.dilation, conv.groups)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
