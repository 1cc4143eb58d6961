"""Linear layers and what they are made into, quick in inference on a CPU.

PyTorch gives float32 products on a CPU to the BLAS library that it was built with. On CPUs that this library does not
favour, oneDNN takes half the time, and it adds the bias and applies GELU while a result is in cache. Networks of linear
layers on large maps lose as much again to memory that is touched for the first time: so branches are computed in
pieces that stay in cache, and added in place.
"""

from __future__ import annotations

import platform
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from .conv import is_plain_inference

__all__ = ["Linear", "Mlp", "add_by_images_", "add_in_pieces_", "takes_shortcuts"]

_PIECE_BYTES = 1 << 21
"""Bytes of the widest activations of a piece, a thread; about what a core's caches hold beside the weights."""
_LEAST_POSITIONS = 256
"""Of a piece: below that, a product spends more time on its weights than on its positions."""


class Linear(nn.Linear):
    """`nn.Linear`, which leaves float32 products to oneDNN in inference on an x86 CPU where it is there and wanted.

    `torch.backends.mkldnn.flags(enabled=False)` says that it is not wanted.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        if _is_for_onednn(self, input):
            return _onednn_linear(self, input, "none")
        return super().forward(input)


class Mlp(nn.Module):
    """Two linear layers, `fc1` and `fc2`, with an activation between them and dropout after each.

    In inference on a CPU the exact GELU, where that is the activation, is part of the first product.

    Args:
        in_features: channels of the input.
        hidden_features: channels between the layers; as many as the input's by default.
        out_features: channels of the output; as many as the input's by default.
        act_layer: makes the activation.
        bias: whether the layers have biases.
        drop: rate of both dropouts.
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
        hidden_features = hidden_features or in_features
        self.fc1 = Linear(in_features, hidden_features, bias=bias)
        self.act = act_layer()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = Linear(hidden_features, out_features or in_features, bias=bias)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        if self._can_fuse(x):
            return self.fc2(_onednn_linear(self.fc1, x, "gelu"))
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))

    def _can_fuse(self, x: torch.Tensor) -> bool:
        """Says whether the first layer and the activation may be one operation, and dropout does nothing."""
        return (
            type(self.fc1) is Linear
            and type(self.act) is nn.GELU
            and self.act.approximate == "none"
            and not self.training
            and _is_for_onednn(self.fc1, x)
            and not any(_is_watched(one) for one in (self.fc1, self.act, self.drop1, self.drop2))
        )


def takes_shortcuts(module: nn.Module, x: torch.Tensor) -> bool:
    """Says whether a module may compute its output by other steps, in place and in pieces.

    That is so in inference on a CPU where neither hooks nor a tracer would see it; see `is_plain_inference`.
    """
    return (
        is_plain_inference(x)
        and x.device.type == "cpu"
        and not module.training
        and not any(_is_watched(one) for one in module.modules())
    )


def add_by_images_(x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Adds what `branch` makes of maps (B, H, W, C) to them, of as many images at once as there are threads; gives `x`.

    `branch` may look at the whole of an image, but not from one image to another.
    """
    for images in x.split(torch.get_num_threads()):
        images += branch(images)
    return x


def add_in_pieces_(x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor], width: int) -> torch.Tensor:
    """Adds what `branch` makes of maps (B, H, W, C) to them, some positions after the others; gives `x`.

    Args:
        x: contiguous; written to.
        branch: maps (positions, C) to the same, each position by itself.
        width: channels of the branch's widest activations.
    """
    positions = x.view(-1, x.shape[-1])
    most = max(_LEAST_POSITIONS, torch.get_num_threads() * _PIECE_BYTES // (width * x.element_size()))
    pieces = max(1, -(-len(positions) // most))
    for piece in positions.tensor_split(pieces):
        piece += branch(piece)
    return x


def _is_watched(module: nn.Module) -> bool:
    """Says whether hooks want to see what goes in and out of a module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
    )


def _onednn_is_there() -> bool:
    """Says whether this build of PyTorch has the products that its own compiler takes for linear layers on a CPU."""
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


_ONEDNN = _onednn_is_there()


def _is_for_onednn(layer: nn.Linear, x: torch.Tensor) -> bool:
    """Says whether `_onednn_linear` can take the place of a layer."""
    return (
        _ONEDNN
        and is_plain_inference(x)
        and torch.backends.mkldnn.enabled
        and x.dtype == layer.weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.ndim > 1
        and x.numel() > 0
    )


def _onednn_linear(layer: nn.Linear, x: torch.Tensor, activation: str) -> torch.Tensor:
    """Applies a layer, and "gelu" or "none" to its result."""
    algorithm = "none" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, activation, [], algorithm)
