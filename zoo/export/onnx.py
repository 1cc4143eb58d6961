"""Models as ONNX files, checked by onnxruntime."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .checking import (
    TOLERANCE,
    ExportError,
    ExportReport,
    check_tables,
    largest_error,
    portable_kernels,
    put_in_place,
    shapes_to_check,
    trace,
)
from .parts import Exportable
from .programs import example, free_sizes

INPUT = "image"
_LARGEST_FILE = 1_900_000_000  # bytes of parameters; a protocol buffer holds 2 GiB, larger ones lie in a file beside it
_NOISY = ("torch.onnx", "onnxscript", "onnx_ir")  # loggers that report on every step


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
    """Writes an ONNX file, if onnxruntime computes with it what PyTorch does.

    The input is `image`; the outputs are named as `exportable` says. Models of 1.9 GB and more have their weights in a
    file `<name>.data` beside it.

    Args:
        part: what `exportable` gives.
        path: where to; a file of that name is replaced.
        image_size: height and width of the images in pixels.
        in_chans: channels of the images.
        batch_size: images that it takes where the batch is fixed.
        dynamic_batch: whether it takes any number of images.
        dynamic_size: whether it takes images of other sizes, multiples of `size_multiple`.
        size_multiple: of free heights and widths.
        opset: version of ONNX's operators; by default what torch writes.
        tolerance: largest difference from PyTorch that is accepted, over the largest value of an output.
        metadata: texts by name, kept in the file (`session.get_modelmeta().custom_metadata_map`).

    Returns:
        What was written.

    Raises:
        ExportError: the model cannot be exported so, or the file computes something else; nothing is written.
    """
    onnxruntime = _import_runtime()
    path = Path(path)
    images = example(in_chans, image_size, batch_size, dynamic_batch, part.normalises)
    if dynamic_size:
        check_tables(part, images)
    names = part.output_names(images)
    program = trace(part, images, dynamic_batch, dynamic_size)
    try:
        with portable_kernels(), _quiet():
            converted: Any = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset)
    except Exception as error:  # exporters raise whatever they meet
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ExportError(f"The model cannot be converted to ONNX: {reason}") from error
    _name(converted.model, names, dynamic_batch, dynamic_size, metadata or {})
    size = sum(one.numel() * one.element_size() for one in part.state_dict().values())
    shapes = shapes_to_check(images, dynamic_batch, dynamic_size, size_multiple)
    with put_in_place(path) as temporary:
        converted.save(temporary, external_data=size > _LARGEST_FILE)
        session = _session(onnxruntime, temporary)

        def run(images: torch.Tensor) -> list[torch.Tensor]:
            return [torch.from_numpy(one) for one in session.run(names, {INPUT: images.numpy()})]

        error = largest_error(part, run, shapes, names, tolerance, part.normalises)
        written = sum(one.stat().st_size for one in temporary.parent.iterdir())
    return ExportReport(
        path, "onnx", tuple(names), free_sizes(dynamic_batch, dynamic_size), tuple(shapes), error, written
    )


def _import_runtime() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise ExportError(
            f"ONNX files need the package {error.name}: pip install 'attnzoo[export]' brings it."
        ) from error
    return onnxruntime


def _session(onnxruntime: Any, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _name(model: Any, outputs: list[str], dynamic_batch: bool, dynamic_size: bool, metadata: Mapping[str, str]) -> None:
    """Names input, outputs and free sizes, and notes what a user of the file must know."""
    free = {axis: name for axis, name in ((0, "batch"),) if dynamic_batch}
    free |= {2: "height", 3: "width"} if dynamic_size else {}
    (image,) = model.graph.inputs
    renamed = {}
    for axis, name in free.items():
        renamed[str(image.shape[axis])] = name
        image.shape[axis] = name
    image.name = INPUT
    for value, name in zip(model.graph.outputs, outputs, strict=True):
        value.name = name
        for axis, extent in enumerate(value.shape or ()):
            if str(extent) in renamed:
                value.shape[axis] = renamed[str(extent)]
    model.metadata_props.update(metadata)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks on its own steps off the user's screen."""
    before = {name: logging.getLogger(name).level for name in _NOISY}
    try:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
