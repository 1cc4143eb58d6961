"""Compares an exported file with PyTorch before it is moved into place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from ..files import sync_folder, temporary_name
from .report import ExportError
from .tracing import first_line, random_images

TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest value of an output; another order of sums causes 1e-6."""


def shapes_to_check(
    images: torch.Tensor, dynamic_batch: bool, dynamic_size: bool, size_multiple: int
) -> list[tuple[int, ...]]:
    """Lists the shapes of images to compare a file on: that of `images`, then other batch and image sizes."""
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
        part: Model that was exported.
        run: Runs the file.
        shapes: Shapes of the images.
        names: Names of the outputs.
        tolerance: Largest accepted difference, relative to the largest value of an output.
        pixels: Whether images have pixels from 0 to 255 instead of normalized ones.

    Returns:
        The largest relative difference.

    Raises:
        ExportError: The difference is too large, or the file does not run.
    """
    largest = 0.0
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        images = random_images(shape, pixels, generator)
        what = f"images of shape {tuple(shape)}"
        with torch.no_grad():
            expected = part(images)
            try:
                actual = run(images)
            except Exception as error:  # runtimes raise exceptions of many types
                raise ExportError(
                    f"The exported file does not run on {what}, so it was discarded: {first_line(error)}"
                ) from error
        for name, ours, theirs in zip(names, expected, actual, strict=True):
            if ours.shape != theirs.shape:
                raise ExportError(
                    f"For {what}, the exported file returns {name} with shape {tuple(theirs.shape)}, but PyTorch with "
                    f"shape {tuple(ours.shape)}, so it was discarded."
                )
            scale = ours.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
            error = float((ours - theirs).abs().max() / scale)
            if not error <= tolerance:
                raise ExportError(
                    f"For {what}, the exported file differs from PyTorch in {name} by {error:.1e} of its largest "
                    f"value. At most {tolerance:.1e} is accepted, so it was discarded."
                )
            largest = max(largest, error)
    return largest


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Lets the body write a file, and files next to it, to a temporary folder, then moves them into place.

    Args:
        path: Final path of the file. It is moved last, so that the files that it refers to exist before it does.

    Yields:
        The path to write to: the same name in an empty folder. If the body raises, nothing is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_name(path)
    folder.mkdir()
    try:
        yield folder / path.name
        for written in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            with open(written, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(written, path.parent / written.name)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
