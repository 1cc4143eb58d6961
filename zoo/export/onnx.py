"""Exports models as ONNX files, verified with onnxruntime."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from .metadata import file_metadata
from .parts import Exportable
from .report import ExportError, ExportReport
from .tracing import check_dynamic_size, dynamic_axes, example_images, exportable_kernels, first_line, trace
from .verification import TOLERANCE, largest_error, shapes_to_check, staged

INPUT = "image"
_MAX_EMBEDDED_BYTES = 1_900_000_000  # a protocol buffer is limited to 2 GiB, so larger weights get their own file
_VERBOSE_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


def export_onnx(
    part: Exportable,
    path: str | os.PathLike[str],
    image_size: tuple[int, int],
    *,
    in_chans: int = 3,
    batch_size: int = 2,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    size_multiple: int = 32,
    opset: int | None = None,
    tolerance: float = TOLERANCE,
    metadata: Mapping[str, str] | None = None,
) -> ExportReport:
    """Writes an ONNX file, if its outputs in onnxruntime equal PyTorch's.

    The input is called `image`; the outputs are named as `exportable` documents. The weights of models above 1.9 GB
    are in a second file, `<name>.data`.

    Args:
        part: Model as returned by `exportable`.
        path: Path to write to; an existing file is replaced.
        image_size: Height and width of the images in pixels.
        in_chans: Number of channels of the images.
        batch_size: Batch size, if it is fixed.
        dynamic_batch: Whether the batch size is dynamic.
        dynamic_size: Whether height and width are dynamic; they must be multiples of `size_multiple`.
        size_multiple: Divisor of dynamic heights and widths.
        opset: Version of the ONNX operator set; by default torch's.
        tolerance: Largest accepted difference from PyTorch, relative to the largest value of an output.
        metadata: Texts by name, stored in the file (`session.get_modelmeta().custom_metadata_map`) in addition to those
            of `file_metadata`, which they override.

    Returns:
        What was written.

    Raises:
        ExportError: The model cannot be exported with these options, or the outputs differ. Nothing is written.
    """
    onnxruntime = _import_runtime()
    path = Path(path)
    images = example_images(in_chans, image_size, batch_size, dynamic_batch, part.normalizes)
    if dynamic_size:
        check_dynamic_size(part, images)
    names = part.output_names(images)
    converted = _convert(trace(part, images, dynamic_batch, dynamic_size), opset)
    _set_names(converted.model, names, dynamic_batch, dynamic_size)
    converted.model.metadata_props.update({**file_metadata(part, image_size), **(metadata or {})})
    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in part.state_dict().values())
    shapes = shapes_to_check(images, dynamic_batch, dynamic_size, size_multiple)
    with staged(path) as temporary:
        converted.save(temporary, external_data=weight_bytes > _MAX_EMBEDDED_BYTES)
        session = _create_session(onnxruntime, temporary)

        def run(images: torch.Tensor) -> list[torch.Tensor]:
            return [torch.from_numpy(output) for output in session.run(names, {INPUT: images.numpy()})]

        error = largest_error(part, run, shapes, names, tolerance, part.normalizes)
        size = sum(file.stat().st_size for file in temporary.parent.iterdir())
    return ExportReport(
        path, "onnx", tuple(names), dynamic_axes(dynamic_batch, dynamic_size), tuple(shapes), error, size
    )


def _import_runtime() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - required by torch.onnx
    except ImportError as error:
        raise ExportError(
            f"ONNX export requires the package {error.name}: pip install 'attnzoo[export]' installs it."
        ) from error
    return onnxruntime


def _convert(program: torch.export.ExportedProgram, opset: int | None) -> Any:
    try:
        with exportable_kernels(), _quiet_loggers():
            return torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset)
    except Exception as error:  # torch.onnx raises exceptions of many types
        raise ExportError(f"The model cannot be converted to ONNX: {first_line(error)}") from error


def _create_session(onnxruntime: Any, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _set_names(model: Any, outputs: list[str], dynamic_batch: bool, dynamic_size: bool) -> None:
    """Names the input, the outputs and the dynamic axes."""
    axes = {0: "batch"} if dynamic_batch else {}
    axes |= {2: "height", 3: "width"} if dynamic_size else {}
    (image,) = model.graph.inputs
    renamed = {}
    for axis, name in axes.items():
        renamed[str(image.shape[axis])] = name
        image.shape[axis] = name
    image.name = INPUT
    for value, name in zip(model.graph.outputs, outputs, strict=True):
        value.name = name
        for axis, extent in enumerate(value.shape or ()):
            if str(extent) in renamed:
                value.shape[axis] = renamed[str(extent)]


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Hides the exporter's messages about its own steps."""
    levels = {name: logging.getLogger(name).level for name in _VERBOSE_LOGGERS}
    try:
        for name in _VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
