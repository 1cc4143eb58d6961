"""The image, query position and block that a figure of a model shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...deprecated_paths import renamed_names
from .overlays import Box


@dataclass(frozen=True)
class View:
    """What a figure shows of a model.

    Attributes:
        model: A backbone, or the `FeatureMaps` around one.
        name: Name of the model.
        image: (1, C, H, W), normalized.
        photo: (H, W, 3) uint8, the same image for display.
        query: x and y in pixels of the image.
        stage: Index of a stage.
        block: Index of a block in the stage.
    """

    model: Any
    name: str
    image: torch.Tensor
    photo: np.ndarray
    query: tuple[float, float]
    stage: int
    block: int

    @property
    def title(self) -> str:
        """Model, stage and block, with indices that count from the start."""
        stages = getattr(self.model, "body", self.model).stages
        stage = self.stage % len(stages)
        return f"{self.name}, stage {stage}, block {self.block % len(stages[stage].blocks)}"

    def position(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the row and column of the query in a map of a size."""
        stride_y, stride_x = self.strides(size)
        return min(int(self.query[1] / stride_y), size[0] - 1), min(int(self.query[0] / stride_x), size[1] - 1)

    def strides(self, size: tuple[int, int]) -> tuple[float, float]:
        """Returns the vertical and horizontal stride of a map of a size, in pixels per position.

        The last row or column of the map may extend beyond the image, or the image beyond the map.
        """
        return _stride(self.photo.shape[0], size[0]), _stride(self.photo.shape[1], size[1])

    def box(self, size: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int]) -> Box:
        """Returns the pixels that the half-open ranges of rows and columns of a map cover."""
        stride_y, stride_x = self.strides(size)
        return cols[0] * stride_x, rows[0] * stride_y, cols[1] * stride_x, rows[1] * stride_y


def _stride(pixels: int, positions: int) -> float:
    """Returns the power of 2 that divides pixels into positions, or their quotient if there is none."""
    for stride in (1, 2, 4, 8, 16, 32, 64):
        if positions in (-(-pixels // stride), pixels // stride):  # an incomplete last stride is padded or cropped
            return stride
    return pixels / positions


__getattr__ = renamed_names(__name__, {"Look": "View"})
