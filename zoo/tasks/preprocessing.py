"""Moves batches to the device and normalizes images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from mmengine.model import BaseDataPreprocessor

from ..registry import MODELS


class Normalization(TypedDict, total=False):
    """Arguments of `ImagePreprocessor` in a config without a type."""

    mean: Sequence[float]
    std: Sequence[float]
    non_blocking: bool


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Moves a batch to the model's device and normalizes its images there: (pixel - mean) / std.

    Args:
        mean: Mean per channel for pixel values in [0, 1], as in timm: (0.485, 0.456, 0.406), not (123.675, ...).
        std: Standard deviation per channel for pixel values in [0, 1].
        non_blocking: Copy asynchronously. This requires `pin_memory=True` in the data loader.

    Raises:
        ValueError: mean and std differ in length or are for pixel values up to 255, or a std is not positive.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != len(std):
            raise ValueError(f"mean and std must have one value per channel, got {tuple(mean)} and {tuple(std)}.")
        if max(*mean, *std) > 1:
            raise ValueError(
                f"mean and std must be for pixel values in [0, 1], got {tuple(mean)} and {tuple(std)}. Divide by 255."
            )
        if min(std) <= 0:
            raise ValueError(f"std must be positive, got {tuple(std)}.")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Args:
            data: A batch with `image` (B, C, H, W), uint8 in [0, 255] or float in [0, 1], and optionally `label` (B,).
            training: Unused; part of mmengine's interface.

        Returns:
            The same keys: normalized float32 `image` and `label` on the model's device, and others unchanged.

        Raises:
            ValueError: The number of channels differs from that of mean and std.
        """
        image = data["image"]
        if image.shape[1] != self.mean.shape[1]:
            raise ValueError(f"Images must have {self.mean.shape[1]} channels, as mean and std, got {image.shape[1]}.")
        image = image.to(self.device, non_blocking=bool(self._non_blocking))
        image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        data = {**data, "image": (image - self.mean) / self.std}
        if data.get("label") is not None:
            data["label"] = data["label"].to(self.device, non_blocking=bool(self._non_blocking))
        return data
