"""Models as programs of torch.export, in torch's own operators: a .pt2 file opens without attnzoo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from .checking import (
    TOLERANCE,
    ExportError,
    ExportReport,
    check_tables,
    largest_error,
    put_in_place,
    shapes_to_check,
    trace,
)
from .parts import Exportable


def export_program(
    part: Exportable,
    path: str | os.PathLike[str],
    image_size: tuple[int, int],
    *,
    in_chans: int = 3,
    batch_size: int = 2,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    size_multiple: int = 32,
    tolerance: float = TOLERANCE,
    metadata: Mapping[str, str] | None = None,
) -> ExportReport:
    """Writes a program that `torch.export.load(path).module()` runs, if it computes what the model does.

    Args:
        part: what `exportable` gives.
        path: where to; a file of that name is replaced.
        image_size: height and width of the images in pixels.
        in_chans: channels of the images.
        batch_size: images that it is traced with, and takes where the batch is fixed; a free batch is traced with at
            least two.
        dynamic_batch: whether it takes any number of images.
        dynamic_size: whether it takes images of other sizes, multiples of `size_multiple`.
        size_multiple: of free heights and widths.
        tolerance: largest difference from PyTorch that is accepted, over the largest value of an output.
        metadata: texts by name, kept in the file.

    Returns:
        What was written.

    Raises:
        ExportError: the model cannot be exported so, or the program computes something else; nothing is written.
    """
    path = Path(path)
    images = example(in_chans, image_size, batch_size, dynamic_batch, part.normalises)
    if dynamic_size:
        check_tables(part, images)
    names = part.output_names(images)
    program = trace(part, images, dynamic_batch, dynamic_size)
    own = sorted({str(node.target) for node in program.graph.nodes if str(node.target).startswith("attnzoo")})
    if own:
        raise ExportError(f"The program would need attnzoo's operators {', '.join(own)}.")
    shapes = shapes_to_check(images, dynamic_batch, dynamic_size, size_multiple)
    with put_in_place(path) as temporary:
        torch.export.save(program, temporary, extra_files={"metadata.txt": _lines(metadata or {})})
        loaded = torch.export.load(temporary).module()
        error = largest_error(part, loaded, shapes, names, tolerance, part.normalises)
        size = temporary.stat().st_size
    return ExportReport(
        path, "torch.export", tuple(names), free_sizes(dynamic_batch, dynamic_size), tuple(shapes), error, size
    )


def _lines(metadata: Mapping[str, str]) -> str:
    return "".join(f"{name}: {text}\n" for name, text in metadata.items())


def free_sizes(dynamic_batch: bool, dynamic_size: bool) -> tuple[str, ...]:
    """Names the sizes of the input that are free."""
    return (("batch",) if dynamic_batch else ()) + (("height", "width") if dynamic_size else ())


def example(
    in_chans: int, image_size: tuple[int, int], batch_size: int, dynamic_batch: bool, pixels: bool
) -> torch.Tensor:
    """Gives random images to trace with, (batch, in_chans, *image_size).

    Args:
        in_chans: channels.
        image_size: height and width in pixels.
        batch_size: images; a free batch needs two at least, since one is traced as a special case.
        dynamic_batch: whether the batch is to be free.
        pixels: whether images are pixel values of 0 to 255 rather than normalised.
    """
    if batch_size < 1 or min(image_size) < 1:
        raise ValueError(f"Images and their sides must be at least 1, but are {batch_size} of {image_size}.")
    batch_size = max(2, batch_size) if dynamic_batch else batch_size
    shape = (batch_size, in_chans, *image_size)
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator) * 255 if pixels else torch.randn(shape, generator=generator)
