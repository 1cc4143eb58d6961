"""When modules may take a faster path than calling their layers one by one, and the in-place updates that it uses.

Layers stay the classes of torch.nn and are called as modules, so that hooks, LoRA, quantization, FX and functorch see
them. A fast path replaces the call by equivalent operations, and only where nothing can observe the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch._C._functorch import peek_interpreter_stack
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = [
    "add_by_images_",
    "add_in_chunks_",
    "can_bypass",
    "can_run_in_place",
    "is_eager_inference",
    "is_unmodified",
    "onednn_is_enabled",
]

_CHUNK_BYTES = 1 << 21
"""Bytes per thread of a chunk's widest activations: about what a core's caches hold beside the weights."""
_MIN_CHUNK_POSITIONS = 256
"""With fewer positions per chunk, a matrix product spends more time on its weights than on the positions."""


def is_eager_inference(x: torch.Tensor) -> bool:
    """Whether operations on `x` run in eager mode without anything that traces, counts or differentiates them.

    False under autograd, torch.compile, torch.export, FX, `torch.func`, autocast and dispatch modes such as
    `FlopCounterMode`.
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


def is_unmodified(layer: nn.Module, layer_type: type[nn.Module]) -> bool:
    """Whether a layer is exactly what `layer_type(...)` builds, so that its operation can be computed another way.

    False for a layer that was replaced by a subclass or another class (parametrization, quantization, LoRA), that has
    hooks or another `forward`, or whose parameters are not plain (sharded, quantized, or swapped by `functional_call`).
    """
    return (
        type(layer) is layer_type
        and not _is_hooked(layer)
        and "forward" not in vars(layer)
        and all(parameter is None or type(parameter) is nn.Parameter for parameter in layer._parameters.values())
    )


def can_bypass(layer: nn.Module, layer_type: type[nn.Module], x: torch.Tensor) -> bool:
    """Whether an equivalent differentiable operation on the layer's parameters can take the place of `layer(x)`.

    False for modified layers, and where FX, torch.jit.trace or functorch would miss the call of the layer.
    """
    return (
        type(x) is torch.Tensor
        and is_unmodified(layer, layer_type)
        and (
            torch.compiler.is_compiling() or not (torch.jit.is_tracing() or peek_interpreter_stack() is not None)  # pyright: ignore[reportPrivateImportUsage]
        )
    )


def can_run_in_place(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether a module may write over its own intermediate maps and compute them in chunks.

    True in eager inference on a CPU, in eval mode, where neither the module nor any module inside it is hooked.
    """
    return (
        is_eager_inference(x)
        and x.device.type == "cpu"
        and not module.training
        and not any(_is_hooked(one) for one in module.modules())
    )


def onednn_is_enabled(x: torch.Tensor) -> bool:
    """Whether oneDNN can compute on `x` and was not disabled by `torch.backends.mkldnn`."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def add_by_images_(x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Adds `branch(x)` to maps (B, H, W, C) in place, as many images at a time as there are threads; returns `x`.

    `branch` must treat each image on its own.
    """
    for images in x.split(torch.get_num_threads()):
        images += branch(images)
    return x


def add_in_chunks_(x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor], width: int) -> torch.Tensor:
    """Adds `branch(x)` to maps (..., C) in place, in chunks of positions that fit the caches; returns `x`.

    Networks of linear layers on large maps otherwise lose much of their time to memory that is touched once.

    Args:
        x: Contiguous maps, written to.
        branch: Maps (positions, C) to the same shape, each position on its own.
        width: Channels of the branch's widest activations.
    """
    positions = x.view(-1, x.shape[-1])
    size = max(_MIN_CHUNK_POSITIONS, torch.get_num_threads() * _CHUNK_BYTES // (width * x.element_size()))
    for chunk in positions.tensor_split(max(1, -(-len(positions) // size))):
        chunk += branch(chunk)
    return x


def _is_hooked(module: nn.Module) -> bool:
    """Whether hooks observe the inputs, outputs or gradients of a module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )
