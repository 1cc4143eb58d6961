"""From a batch of the data loader to a model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from mmengine.model import BaseDataPreprocessor

from ..registry import MODELS


class Normalisation(TypedDict, total=False):
    """The settings of `ImagePreprocessor`, where a config names no type."""

    mean: Sequence[float]
    std: Sequence[float]
    non_blocking: bool


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Moves a batch to the model's device and normalises its images there: (pixel - mean) / std.

    Args:
        mean: per channel, for pixel values in [0, 1], as timm has them: (0.485, 0.456, 0.406), not (123.675, ...).
        std: per channel, for pixel values in [0, 1].
        non_blocking: do not wait for the copy; needs `pin_memory=True` in the data loader.

    Raises:
        ValueError: mean and std differ in length, are for pixel values to 255, or a std is not over 0.
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
            raise ValueError(f"mean and std need one value a channel each: {tuple(mean)}, {tuple(std)}.")
        if max(*mean, *std) > 1:
            raise ValueError(
                f"mean {tuple(mean)} and std {tuple(std)} are for pixel values of 0 to 255: divide them by 255."
            )
        if min(std) <= 0:
            raise ValueError(f"Each std is over 0: {tuple(std)}.")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Args:
            data: with `image` (B, C, H, W), uint8 of 0 to 255 or float of 0 to 1, and `label` (B,) where there is one.
            training: not used; mmengine's interface.

        Returns:
            The same keys: `image` as float32, normalised, `label` on the model's device, and the rest as it is.

        Raises:
            ValueError: the images have another number of channels than mean and std.
        """
        image = data["image"]
        if image.shape[1] != self.mean.shape[1]:
            raise ValueError(f"The images have {image.shape[1]} channels, mean and std have {self.mean.shape[1]}.")
        image = image.to(self.device, non_blocking=bool(self._non_blocking))
        image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        data = {**data, "image": (image - self.mean) / self.std}
        if data.get("label") is not None:
            data["label"] = data["label"].to(self.device, non_blocking=bool(self._non_blocking))
        return data
