"""What a run is made of: parameters, multiply-accumulates, versions of the libraries."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

LIBRARIES = ("attnzoo", "torch", "torchvision", "triton", "timm", "mmengine", "numpy", "pillow")


def library_versions() -> dict[str, str]:
    """Names the versions of Python and of the libraries that figures depend on; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Counts a model's parameters: all of them, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def count_macs(model: nn.Module, size: tuple[int, int], in_chans: int = 3) -> int:
    """Counts the multiply-accumulates of convolutions, matrix products and attention for one image.

    Args:
        model: best on PyTorch's meta device, where nothing is computed; it is put into evaluation mode.
        size: height and width of the image in pixels.
        in_chans: channels of the image.

    Returns:
        Multiply-accumulates; half of the floating-point operations.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.empty(1, in_chans, *size, device=device))
    return counter.get_total_flops() // 2


def describe_device() -> str:
    """Names the device that a run computes on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def table(rows: list[tuple[str, Any]]) -> str:
    """Sets names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
