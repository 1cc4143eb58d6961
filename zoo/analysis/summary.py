"""Summary of a run: parameters, multiply-accumulates, device, library versions."""

from __future__ import annotations

import platform
from importlib import metadata

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...deprecated_paths import renamed_names

LIBRARIES = ("attnzoo", "torch", "torchvision", "triton", "timm", "mmengine", "numpy", "pillow")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that affect results; libraries not installed are omitted."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Returns the number of parameters of a model, and how many of them are trainable."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)


def count_macs(model: nn.Module, size: tuple[int, int], in_chans: int = 3) -> int:
    """Counts the multiply-accumulates of convolutions, matrix products and attention for one image.

    Args:
        model: The model, preferably on the meta device, where nothing is computed. It is put into evaluation mode.
        size: Height and width of the image in pixels.
        in_chans: Number of image channels.

    Returns:
        Multiply-accumulates; half of the floating-point operations.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.empty(1, in_chans, *size, device=device))
    return counter.get_total_flops() // 2


def describe_device() -> str:
    """Returns the name of the device that a run uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


__getattr__ = renamed_names(__name__, {"table": "zoo.plots.tables.align_pairs"})
