"""Linear layers and MLPs, with a faster path for inference on a CPU.

PyTorch computes float32 matrix products on a CPU with the BLAS library that it was built with. On CPUs that this
library is not tuned for, oneDNN takes half the time, and it adds the bias and applies GELU while a result is in cache.
"""

from __future__ import annotations

import platform
from collections.abc import Callable

import torch
from torch import nn

from .fast_paths import is_eager_inference, is_unmodified, onednn_is_enabled

__all__ = ["Mlp", "linear", "linear_on_weight"]


def _onednn_has_linear() -> bool:
    """Whether this build of PyTorch has the operator that its own compiler uses for linear layers on a CPU."""
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


_ONEDNN = _onednn_has_linear()


def linear(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Applies a linear layer to (..., in_features), through oneDNN in float32 inference on an x86 CPU.

    Everywhere else, and for layers that are hooked, wrapped, parametrized, quantized or traced, this is `layer(x)`.
    `torch.backends.mkldnn.flags(enabled=False)` disables oneDNN.
    """
    if _can_use_onednn(layer, x):
        assert isinstance(layer, nn.Linear)
        return _onednn_linear(x, layer.weight, layer.bias, "none")
    return layer(x)


def linear_on_weight(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Computes `F.linear(x, weight, bias)`, through oneDNN in float32 inference on an x86 CPU."""
    if _ONEDNN and is_eager_inference(x) and _fits_onednn(x, weight):
        return _onednn_linear(x, weight, bias, "none")
    return nn.functional.linear(x, weight, bias)


class Mlp(nn.Module):
    """Two linear layers, `fc1` and `fc2`, with an activation between them and dropout after each.

    In float32 inference on an x86 CPU, an exact GELU is fused into the first layer.

    Args:
        in_features: Number of input channels.
        hidden_features: Number of hidden channels; `in_features` by default.
        out_features: Number of output channels; `in_features` by default.
        act_layer: Builds the activation.
        bias: Whether the linear layers have biases.
        drop: Dropout rate.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        bias: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, self.hidden_features, bias=bias)
        self.act = act_layer()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(self.hidden_features, out_features or in_features, bias=bias)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        if self._can_fuse_gelu(x):
            x = _onednn_linear(x, self.fc1.weight, self.fc1.bias, "gelu")
        else:
            x = self.act(linear(self.fc1, x))
        return self.drop2(linear(self.fc2, self.drop1(x)))

    def _can_fuse_gelu(self, x: torch.Tensor) -> bool:
        """Whether the first layer and the activation can be one operation."""
        return (
            _can_use_onednn(self.fc1, x)
            and is_unmodified(self.act, nn.GELU)
            and getattr(self.act, "approximate", None) == "none"
        )


def _can_use_onednn(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether `_onednn_linear` can take the place of a layer."""
    return (
        _ONEDNN
        and is_eager_inference(x)
        and is_unmodified(layer, nn.Linear)
        and isinstance(layer, nn.Linear)
        and _fits_onednn(x, layer.weight)
    )


def _fits_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether shapes, dtypes and devices are those that `_onednn_linear` takes."""
    return x.ndim > 1 and weight.dtype == torch.float32 and weight.device == x.device and onednn_is_enabled(x)


def _onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    """Computes a linear layer and then "gelu" or "none"."""
    algorithm = "none" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)
