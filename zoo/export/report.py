"""The result of an export, and the error if there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class ExportError(ValueError):
    """A model cannot be exported as requested. Nothing was written."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported. `str(report)` describes it in a sentence.

    Attributes:
        path: Path of the file.
        format: "onnx" or "torch.export".
        outputs: Names of the outputs.
        dynamic: Dynamic axes of the input: "batch", "height", "width".
        checked: Shapes of the images that the file was compared with PyTorch on.
        error: Largest difference from PyTorch, relative to the largest value of that output.
        bytes: Total size of the files.
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
        dynamic = f"Dynamic axes: {', '.join(self.dynamic)}." if self.dynamic else "All axes are fixed."
        return (
            f"{self.path}: {', '.join(self.outputs)} ({self.format}, {self.bytes / 1e6:.1f} MB). Largest relative "
            f"difference from PyTorch {self.error:.1e}, on images {shapes}. {dynamic}"
        )
