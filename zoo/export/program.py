"""Exports models as torch.export programs, in torch's own operators: a .pt2 file can be loaded without attnzoo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from .metadata import file_metadata
from .parts import Exportable
from .report import ExportError, ExportReport
from .tracing import check_dynamic_size, dynamic_axes, example_images, trace
from .verification import TOLERANCE, largest_error, shapes_to_check, staged


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
    """Writes a program that `torch.export.load(path).module()` runs, if its outputs equal PyTorch's.

    Args:
        part: Model as returned by `exportable`.
        path: Path to write to; an existing file is replaced.
        image_size: Height and width of the images in pixels.
        in_chans: Number of channels of the images.
        batch_size: Number of images to trace with, and the batch size if it is fixed. A dynamic batch is traced with
            at least two.
        dynamic_batch: Whether the batch size is dynamic.
        dynamic_size: Whether height and width are dynamic; they must be multiples of `size_multiple`.
        size_multiple: Divisor of dynamic heights and widths.
        tolerance: Largest accepted difference from PyTorch, relative to the largest value of an output.
        metadata: Texts by name, stored in the file in addition to those of `file_metadata`, which they override.

    Returns:
        What was written.

    Raises:
        ExportError: The model cannot be exported with these options, or the outputs differ. Nothing is written.
    """
    path = Path(path)
    images = example_images(in_chans, image_size, batch_size, dynamic_batch, part.normalizes)
    if dynamic_size:
        check_dynamic_size(part, images)
    names = part.output_names(images)
    program = trace(part, images, dynamic_batch, dynamic_size)
    own = sorted({str(node.target) for node in program.graph.nodes if str(node.target).startswith("attnzoo")})
    if own:
        raise ExportError(f"The program would need attnzoo's operators {', '.join(own)}.")
    shapes = shapes_to_check(images, dynamic_batch, dynamic_size, size_multiple)
    texts = {**file_metadata(part, image_size), **(metadata or {})}
    lines = "".join(f"{name}: {text}\n" for name, text in texts.items())
    with staged(path) as temporary:
        torch.export.save(program, temporary, extra_files={"metadata.txt": lines})
        loaded = torch.export.load(temporary).module()
        error = largest_error(part, loaded, shapes, names, tolerance, part.normalizes)
        size = temporary.stat().st_size
    axes = dynamic_axes(dynamic_batch, dynamic_size)
    return ExportReport(path, "torch.export", tuple(names), axes, tuple(shapes), error, size)
