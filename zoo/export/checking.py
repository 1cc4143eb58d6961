"""Whether an exported file computes what the model does, before it is put in place."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ...kernels import plain_operators, use_backend
from ..files import sync_folder, temporary_name

TOLERANCE = 1e-4
"""Largest difference that is accepted, over the largest value of an output; float32 in another order gives 1e-6."""

_TRACED_TABLES = "ranged_attention_2d"  # the operation that is traced with tables of one size of map


class ExportError(ValueError):
    """A model that cannot be exported as asked for; nothing was written."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported; `str(report)` says it in a sentence.

    Attributes:
        path: the file.
        format: "onnx" or "torch.export".
        outputs: names of the outputs.
        dynamic: which sizes of the input are free: "batch", "height", "width".
        checked: shapes of the images on which the file was compared with PyTorch.
        error: the largest difference from PyTorch, over the largest value of that output.
        bytes: size of all files together.
    """

    path: Path
    format: str
    outputs: tuple[str, ...]
    dynamic: tuple[str, ...]
    checked: tuple[tuple[int, ...], ...]
    error: float
    bytes: int

    def __str__(self) -> str:
        shapes = ", ".join("x".join(map(str, shape)) for shape in self.checked)
        free = f" Free sizes: {', '.join(self.dynamic)}." if self.dynamic else " All sizes are fixed."
        return (
            f"{self.path}: {', '.join(self.outputs)} ({self.format}, {self.bytes / 1e6:.1f} MB). Largest relative "
            f"difference from PyTorch {self.error:.1e}, on images {shapes}.{free}"
        )


@contextlib.contextmanager
def portable_kernels() -> Iterator[None]:
    """Has the zoo's operations traced as torch's own operators, without gradients and warnings of exporters."""
    with warnings.catch_warnings(), torch.no_grad(), plain_operators(), use_backend("torch"):
        warnings.simplefilter("ignore")
        yield


def trace(
    part: nn.Module, images: torch.Tensor, dynamic_batch: bool, dynamic_size: bool
) -> torch.export.ExportedProgram:
    """Traces a part for images.

    Args:
        part: what `exportable` gives.
        images: (B, C, H, W); of at least two where the batch is to be free.
        dynamic_batch: whether the batch is to be free.
        dynamic_size: whether height and width are to be free.

    Raises:
        ExportError: a free size is impossible, or the model cannot be traced.
    """
    free = ([0] if dynamic_batch else []) + ([2, 3] if dynamic_size else [])
    shapes = dict.fromkeys(free, torch.export.Dim.DYNAMIC) or None
    try:
        with portable_kernels():
            return torch.export.export(part, (images,), dynamic_shapes=(shapes,), strict=False)
    except Exception as error:  # exporters raise whatever they meet
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        advice = " Fixed height and width may work." if dynamic_size else ""
        raise ExportError(f"The model cannot be traced by torch.export: {reason}.{advice}") from error


def check_tables(part: nn.Module, images: torch.Tensor) -> None:
    """Raises an ExportError where a model's attention is traced with tables that hold for one size of map."""
    with _Called() as called, torch.no_grad():
        part(images)
    if _TRACED_TABLES in called.names:
        raise ExportError(
            "The height and width of this model cannot be free: which keys a query sees (neighborhoods, windows, "
            "halos) is written into the file as tables for one size of map. Export one file for each size of image."
        )


class _Called(TorchFunctionMode):
    """Notes the zoo's operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "namespace", None) == "attnzoo":
            self.names.add(func._opname)
        return func(*args, **(kwargs or {}))


def shapes_to_check(
    images: torch.Tensor, dynamic_batch: bool, dynamic_size: bool, size_multiple: int
) -> list[tuple[int, ...]]:
    """Lists shapes of images on which a file is to be compared: that of `images`, then other batches and sizes."""
    batch, channels, height, width = images.shape
    shapes = [tuple(images.shape)]
    if dynamic_batch:
        shapes += [(1, channels, height, width), (batch + 1, channels, height, width)]
    if dynamic_size:
        shapes.append((batch, channels, height + size_multiple, width + 2 * size_multiple))
    return shapes


def largest_error(
    part: nn.Module,
    run: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    shapes: Sequence[tuple[int, ...]],
    names: Sequence[str],
    tolerance: float,
    pixels: bool,
) -> float:
    """Compares an exported file with PyTorch on random images.

    Args:
        part: what was exported.
        run: runs the file.
        shapes: of the images.
        names: of the outputs.
        tolerance: largest difference that is accepted, over the largest value of an output.
        pixels: whether images are pixel values of 0 to 255 rather than normalised.

    Returns:
        The largest such difference.

    Raises:
        ExportError: it is too large, or the file does not run.
    """
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        images = torch.rand(shape, generator=generator) * 255 if pixels else torch.randn(shape, generator=generator)
        what = f"images of the shape {tuple(shape)}"
        with torch.no_grad():
            expected = part(images)
            try:
                given = run(images)
            except Exception as error:  # whatever the runtime raises
                reason = str(error).strip().split("\n")[0]
                raise ExportError(f"The exported file does not run on {what}, so it was not kept: {reason}") from error
        for name, one, other in zip(names, expected, given, strict=True):
            if one.shape != other.shape:
                raise ExportError(
                    f"The exported file gives {name} the shape {tuple(other.shape)} for {what}, PyTorch "
                    f"{tuple(one.shape)}, so it was not kept."
                )
            scale = one.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
            error = float((one - other).abs().max() / scale)
            if not error <= tolerance:
                raise ExportError(
                    f"The exported file differs from PyTorch in {name} by {error:.1e} of its largest value on {what}; "
                    f"at most {tolerance:.1e} is accepted, so it was not kept."
                )
            worst = max(worst, error)
    return worst


@contextlib.contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """Lets the body write a file, and files beside it, in a folder of its own, then moves them to where they belong.

    Args:
        path: where the file is to be. It is moved last, so that a reader who sees it sees all.

    Yields:
        Where to write it: the same name in an empty folder. Where the body raises, nothing is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_name(path)
    folder.mkdir()
    try:
        yield folder / path.name
        written = sorted(folder.iterdir(), key=lambda one: one.name == path.name)
        for one in written:
            with open(one, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(one, path.parent / one.name)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
