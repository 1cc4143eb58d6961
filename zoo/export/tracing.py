"""Traces a model with torch.export, in torch's own operators."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ...kernels import exportable_operators, use_backend
from .report import ExportError

_OPERATORS_WITH_TABLES = ("ranged_attention_2d",)  # traced with index tables for one size of the feature map


@contextlib.contextmanager
def exportable_kernels() -> Iterator[None]:
    """Makes the zoo's operations run as torch's own operators, without gradients and without exporters' warnings."""
    with warnings.catch_warnings(), torch.no_grad(), exportable_operators(), use_backend("torch"):
        warnings.simplefilter("ignore")
        yield


def trace(
    part: nn.Module, images: torch.Tensor, dynamic_batch: bool, dynamic_size: bool
) -> torch.export.ExportedProgram:
    """Traces a model.

    Args:
        part: Model as returned by `exportable`.
        images: (B, C, H, W); at least two if the batch is dynamic.
        dynamic_batch: Whether the batch size is dynamic.
        dynamic_size: Whether height and width are dynamic.

    Raises:
        ExportError: An axis cannot be dynamic, or the model cannot be traced.
    """
    axes = ([0] if dynamic_batch else []) + ([2, 3] if dynamic_size else [])
    shapes = dict.fromkeys(axes, torch.export.Dim.DYNAMIC) or None
    try:
        with exportable_kernels():
            return torch.export.export(part, (images,), dynamic_shapes=(shapes,), strict=False)
    except Exception as error:  # torch.export raises exceptions of many types
        advice = " Try a fixed height and width." if dynamic_size else ""
        raise ExportError(f"torch.export cannot trace the model: {first_line(error)}.{advice}") from error


def check_dynamic_size(part: nn.Module, images: torch.Tensor) -> None:
    """Raises an ExportError if a model's attention is traced with tables for one size of the feature map."""
    with _RecordOperators() as recorded, torch.no_grad():
        part(images)
    if recorded.names & set(_OPERATORS_WITH_TABLES):
        raise ExportError(
            "The height and width of this model cannot be dynamic: which keys a query attends to (neighborhoods, "
            "windows, halos) is stored in the file as tables for one size of map. Export one file per image size."
        )


class _RecordOperators(TorchFunctionMode):
    """Records which of the zoo's operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "namespace", None) == "attnzoo":
            self.names.add(func._opname)
        return func(*args, **(kwargs or {}))


def example_images(
    in_chans: int, image_size: tuple[int, int], batch_size: int, dynamic_batch: bool, pixels: bool
) -> torch.Tensor:
    """Creates random images to trace with, (batch, in_chans, *image_size).

    Args:
        in_chans: Number of channels.
        image_size: Height and width in pixels.
        batch_size: Number of images. At least two are created for a dynamic batch, because torch.export specializes a
            batch of one.
        dynamic_batch: Whether the batch size is dynamic.
        pixels: Whether values are pixels from 0 to 255 instead of normalized ones.

    Raises:
        ValueError: A size is not positive.
    """
    if batch_size < 1 or min(image_size) < 1:
        raise ValueError(f"batch_size and image_size must be positive, got {batch_size} and {tuple(image_size)}.")
    shape = (max(2, batch_size) if dynamic_batch else batch_size, in_chans, *image_size)
    return random_images(shape, pixels, torch.Generator().manual_seed(1))


def random_images(shape: tuple[int, ...], pixels: bool, generator: torch.Generator) -> torch.Tensor:
    """Creates random images, with pixels from 0 to 255 or normalized ones."""
    return torch.rand(shape, generator=generator) * 255 if pixels else torch.randn(shape, generator=generator)


def dynamic_axes(dynamic_batch: bool, dynamic_size: bool) -> tuple[str, ...]:
    """Returns the names of the input's dynamic axes."""
    return (("batch",) if dynamic_batch else ()) + (("height", "width") if dynamic_size else ())


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message, without its period, or the name of its type."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
