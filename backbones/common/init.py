"""Weight initialization shared by the families."""

from __future__ import annotations

import math

import torch
from timm import layers as timm_layers
from torch import nn

__all__ = ["init_conv", "init_linear", "trunc_normal_"]

# timm.layers is where timm documents this, but it does not mark it as exported, so pyright takes it for private.
_timm_trunc_normal_ = timm_layers.trunc_normal_  # pyright: ignore[reportPrivateImportUsage]


def trunc_normal_(tensor: torch.Tensor, std: float) -> torch.Tensor:
    """Fills a tensor in place from a normal distribution with mean 0, truncated to [-2, 2], and returns it.

    Tensors on the meta device are returned as they are: drawing for them would take most of a model's building time.
    """
    return tensor if tensor.is_meta else _timm_trunc_normal_(tensor, std=std)


def init_linear(module: nn.Module) -> None:
    """Initializes a linear layer: weights from a truncated normal with std 0.02, zero bias. For `Module.apply`."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_conv(module: nn.Module) -> None:
    """Initializes a convolution: weights from a normal with variance 2 / fan-out, zero bias. For `Module.apply`.

    The fan-out of a grouped convolution is that of one group.
    """
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
