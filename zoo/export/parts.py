"""The parts of a model that can be exported: those that map images to tensors and do nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...names import unknown_name
from ..tasks.base import backbone_output
from .report import ExportError

PARTS = ("whole", "backbone", "neck", "rpn")
"""The complete model; its backbone; backbone and neck; or backbone, neck and region proposal network (RPN)."""


class Exportable(nn.Module):
    """A model that maps images to named tensors, as exporters need it.

    Args:
        model: Module with the parameters.
        run: Maps the model and images (B, C, H, W) to a tensor, or to nested sequences of tensors.
        names: Names of the outputs. The tensors of a sequence get the sequence's name and a number.
        mean: Mean per channel for pixel values in [0, 1]. With `std`, the images have pixels from 0 to 255, which are
            normalized here.
        std: Standard deviation per channel for pixel values in [0, 1].

    Attributes:
        normalizes: Whether images are normalized here.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[Any, torch.Tensor], Any],
        names: Sequence[str],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError("mean and std belong together: pass both or neither.")
        self.model = model
        self.run = run
        self.names = tuple(names)
        self.normalizes = mean is not None
        for name, values in (("mean", mean), ("std", std)):
            if values is not None:
                self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) * 255)
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps images (B, C, H, W) to the outputs."""
        if self.normalizes:
            image = (image - self.get_buffer("mean")) / self.get_buffer("std")
        return tuple(tensor for _, tensor in _flatten(self.names, self.run(self.model, image)))

    def output_names(self, image: torch.Tensor) -> list[str]:
        """Returns the names of the outputs for images like `image`."""
        with torch.no_grad():
            return [name for name, _ in _flatten(self.names, self.run(self.model, image))]


def _flatten(names: Sequence[str], outputs: Any) -> list[tuple[str, torch.Tensor]]:
    """Lists tensors with their names; the tensors of a sequence are numbered."""
    if isinstance(outputs, torch.Tensor):
        return [(names[0], outputs)]
    if len(names) == 1:
        return [(f"{names[0]}{index}", tensor) for index, tensor in enumerate(outputs)]
    return [pair for name, output in zip(names, outputs, strict=True) for pair in _flatten([name], output)]


def exportable(
    model: nn.Module,
    part: str = "whole",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Exportable:
    """Prepares a model, or a part of it, for export.

    Args:
        model: A backbone (with the output `logits`, or `features` without classes), a `FeatureMaps` (`map0`, `map1`,
            ...), or a task: a classifier (`logits`), a segmentor (`logits` of its decode head at the head's stride,
            before they are resized to the image) or a single-stage detector (`cls_scores0`, ..., `bbox_preds0`, ...:
            the head's maps before boxes are decoded and suppressed).
        part: One of `PARTS`, or another part that the task defines. A two-stage detector cannot be exported as a whole,
            but as "backbone" (`map0`, ...), "neck" (the neck's maps under the same names) and "rpn" (`cls_scores0`,
            ..., `bbox_preds0`, ...).
        mean: Mean per channel for pixel values in [0, 1]. With `std`, the file takes pixels from 0 to 255.
        std: Standard deviation per channel for pixel values in [0, 1].

    Returns:
        The part in evaluation mode. It shares the model's parameters.

    Raises:
        ExportError: The model has no such part, or it cannot be exported; the message lists the parts that can.
        ValueError: The name of the part is unknown.
    """
    parts: Mapping[str, Any] | None = model.export_parts() if hasattr(model, "export_parts") else None  # pyright: ignore[reportCallIssue]
    if part not in {*PARTS, *(parts or ())}:
        raise ValueError(unknown_name("part", part, {*PARTS, *(parts or ())}))
    kind = type(model).__name__
    if parts is None:
        if part not in ("whole", "backbone"):
            raise ExportError(f"{kind} is a backbone and has no {part!r}: part='whole' exports it.")
        return Exportable(model, lambda model, image: model(image), [backbone_output(model)], mean, std)
    if part not in parts:
        allowed = ", ".join(f"part={name!r} ({one.description})" for name, one in reversed(list(parts.items())))
        reason = getattr(model, "not_exportable", {}).get(part)
        problem = f"{kind} has no {part!r}" if reason is None else f"The {part} {kind} cannot be exported: {reason}"
        raise ExportError(f"{problem}. These parts can be exported: {allowed}.")
    return Exportable(model, parts[part].run, parts[part].outputs, mean, std)
