"""What of a model can be exported: the part that maps images to tensors and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...backbones.common.layers import FeatureMaps
from ...names import unknown_name
from .checking import ExportError

PARTS = ("whole", "backbone", "neck", "rpn")
"""The whole model, its backbone, backbone and neck, or backbone, neck and region proposal network."""


class Exportable(nn.Module):
    """A model that maps images to tensors with names, as exporters want it.

    Args:
        model: holds the parameters.
        run: maps the model and images (B, C, H, W) to a tensor, or to sequences of them in sequences.
        names: of the outputs, in order; one of `run`'s sequences takes its name and a number for each of its tensors.
        mean: per channel; given with `std`, images are pixel values of 0 to 255 and normalised here.
        std: per channel, for pixel values in [0, 1].
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
            raise ValueError("mean and std come together: give both or neither.")
        self.model = model
        self.run = run
        self.names = tuple(names)
        self.normalises = mean is not None
        for name, values in (("mean", mean), ("std", std)):
            if values is not None:
                self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) * 255)
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps images (B, C, H, W) to the outputs."""
        if self.normalises:
            image = (image - self.get_buffer("mean")) / self.get_buffer("std")
        return tuple(tensor for _, tensor in _flat(self.names, self.run(self.model, image)))

    def output_names(self, image: torch.Tensor) -> list[str]:
        """Names the outputs for images like `image`."""
        with torch.no_grad():
            return [name for name, _ in _flat(self.names, self.run(self.model, image))]


def _flat(names: Sequence[str], outputs: Any) -> list[tuple[str, torch.Tensor]]:
    """Lists tensors by name; where a name stands for a sequence, each of its tensors gets a number."""
    if isinstance(outputs, torch.Tensor):
        return [(names[0], outputs)]
    if len(names) == 1:
        return [(f"{names[0]}{number}", one) for number, one in enumerate(outputs)]
    return [pair for name, part in zip(names, outputs, strict=True) for pair in _flat([name], part)]


def exportable(
    model: nn.Module,
    part: str = "whole",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Exportable:
    """Finds what of a model can be exported.

    Args:
        model: a backbone (`logits`, or without classes `features`), a `FeatureMaps` (`map0`, `map1`, ...), or a task:
            a classifier (`logits`), a segmentor (`logits` of its decode head, at the head's stride, before they are
            stretched to the image) or a single-stage detector (`cls_scores0`, ..., `bbox_preds0`, ...: its maps, before
            boxes are decoded and suppressed).
        part: one of `PARTS`. Of a two-stage detector the whole cannot be exported, these can: "backbone" (`map0`, ...),
            "neck" (the same names, behind the neck) and "rpn" (`cls_scores0`, ..., `bbox_preds0`, ...).
        mean: per channel; given with `std`, the images that go in are pixel values of 0 to 255.
        std: per channel, for pixel values in [0, 1].

    Returns:
        The part, in evaluation mode; it shares the model's parameters.

    Raises:
        ExportError: the model has no such part, or it cannot be exported; the message says what can.
        ValueError: there is no such part.
    """
    parts = _parts_of(model)
    if part not in {*PARTS, *(parts or ())}:
        raise ValueError(unknown_name("part", part, {*PARTS, *(parts or ())}))
    kind = type(model).__name__
    if parts is None:
        if part not in ("whole", "backbone"):
            raise ExportError(f"{kind} is a backbone and has no {part!r}: part='whole' exports it.")
        output = (
            "map" if isinstance(model, FeatureMaps) else "logits" if getattr(model, "num_classes", 1) else "features"
        )
        return Exportable(model, lambda one, image: one(image), [output], mean, std)
    if part not in parts:
        allowed = ", ".join(f"part={name!r} ({one.description})" for name, one in reversed(list(parts.items())))
        reason = getattr(model, "not_exportable", {}).get(part)
        problem = f"{kind} has no {part!r}" if reason is None else f"The {part} {kind} cannot be exported: {reason}"
        raise ExportError(f"{problem}. What can be exported of it: {allowed}.")
    return Exportable(model, parts[part].run, parts[part].outputs, mean, std)


def _parts_of(model: Any) -> Mapping[str, Any] | None:
    return model.export_parts() if hasattr(model, "export_parts") else None
