"""Normalizes images of different sizes and pads them to a batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ...heads.segmentation.pixel_losses import IGNORE_INDEX
from ...heads.structures import ImageInfo, Instances
from ..registry import MODELS
from .preprocessing import ImagePreprocessor


@MODELS.register_module()
class DensePreprocessor(ImagePreprocessor):
    """Moves images of different sizes to the model's device, normalizes them, and pads them to one size.

    Images are padded at the right and at the bottom after normalization, so that the padding has the mean color, as in
    OpenMMLab's preprocessors.

    Args:
        mean: Mean per channel for pixel values in [0, 1].
        std: Standard deviation per channel for pixel values in [0, 1].
        size_divisor: Height and width of a batch are rounded up to a multiple of this: 32 for published detectors.
        train_size: Minimum height and width of a training batch in pixels: the crop size for published segmentors.
        non_blocking: Copy asynchronously. This requires `pin_memory=True` in the data loader.

    Raises:
        ValueError: See `ImagePreprocessor`. Also if `size_divisor` or a side of `train_size` is less than 1.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        size_divisor: int = 1,
        train_size: Sequence[int] | None = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(mean, std, non_blocking)
        if train_size is not None and (len(train_size) != 2 or min(train_size) < 1):
            raise ValueError(f"train_size must be height and width in pixels, got {train_size!r}.")
        self.train_size = (1, 1) if train_size is None else tuple(train_size)
        if not isinstance(size_divisor, int) or size_divisor < 1:
            raise ValueError(f"size_divisor must be an integer >= 1, got {size_divisor!r}.")
        self.size_divisor = size_divisor

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Args:
            data: A batch from `dense_collate`. `image`: a list of (C, h, w), uint8 in [0, 255] or float in [0, 1], or
                a tensor (B, C, h, w). `info`: a list of `ImageInfo`, by default for images that were not resized.
                Optional: `target`, a list of `Instances`; `label_map`, a list of (h, w); and `views`, which replaces
                `image` and `info`, a list of dicts with `image` (C, h, w) and `info` for each sample.
            training: Whether to pad label maps with the images, and to apply `train_size`.

        Returns:
            The same keys. `image`: (B, C, H, W) float32. `info`: with `batch_size` and `padded_size`. `target`: on the
            device, with masks padded to (H, W). `label_map`: in training (B, H, W) int64, padded with 255, otherwise
            unchanged on the CPU. `views`: each with `image` (1, C, H, W) and `info`.

        Raises:
            ValueError: The number of channels differs from that of mean and std, or an image and its label map have
                different sizes.
        """
        if data.get("views") is not None:
            views = [[self._view(view) for view in sample] for sample in data["views"]]
            return {**data, "views": views}
        image, infos = self._stack(data["image"], data.get("info"), self.train_size if training else (1, 1))
        data = {**data, "image": image, "info": infos}
        if data.get("target") is not None:
            data["target"] = [None if one is None else self._target(one, image.shape[-2:]) for one in data["target"]]
        if training and data.get("label_map") is not None:
            data["label_map"] = self._label_maps(data["label_map"], infos, image.shape[-2:])
        return data

    def _view(self, view: dict[str, Any]) -> dict[str, Any]:
        image, (info,) = self._stack([view["image"]], [view["info"]], (1, 1))
        return {**view, "image": image, "info": info}

    def _stack(
        self,
        images: Sequence[torch.Tensor] | torch.Tensor,
        infos: Sequence[ImageInfo] | None,
        least: Sequence[int],
    ) -> tuple[torch.Tensor, list[ImageInfo]]:
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height, width = (self._rounded(max(sides)) for sides in zip(*sizes, least, strict=True))
        channels = self.mean.shape[1]
        batch = torch.zeros(len(images), channels, height, width, device=self.device)
        for place, image, (rows, columns) in zip(batch, images, sizes, strict=True):
            if image.shape[0] != channels:
                raise ValueError(f"Images must have {channels} channels, as mean and std, got {image.shape[0]}.")
            image = image.to(self.device, non_blocking=bool(self._non_blocking))
            image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
            place[:, :rows, :columns] = (image - self.mean[0]) / self.std[0]
        known = infos if infos is not None else [ImageInfo(size, size) for size in sizes]
        padded = [(self._rounded(rows), self._rounded(columns)) for rows, columns in sizes]
        return batch, [
            dataclasses.replace(info, batch_size=(height, width), padded_size=own)
            for info, own in zip(known, padded, strict=True)
        ]

    def _rounded(self, side: int) -> int:
        return math.ceil(side / self.size_divisor) * self.size_divisor

    def _target(self, target: Instances, size: Sequence[int]) -> Instances:
        target = target.to(self.device, non_blocking=bool(self._non_blocking))
        if target.masks is not None:
            rows, columns = target.masks.shape[-2:]
            target.masks = F.pad(target.masks, (0, size[1] - columns, 0, size[0] - rows))
        return target

    def _label_maps(
        self, label_maps: Sequence[torch.Tensor], infos: Sequence[ImageInfo], size: Sequence[int]
    ) -> torch.Tensor:
        batch = torch.full((len(label_maps), *size), IGNORE_INDEX, dtype=torch.int64, device=self.device)
        for place, label_map, info in zip(batch, label_maps, infos, strict=True):
            if tuple(label_map.shape) != tuple(info.image_size):
                raise ValueError(
                    f"In training, the transform must resize an image and its label map to the same size, got "
                    f"{tuple(info.image_size)} and {tuple(label_map.shape)}."
                )
            rows, columns = label_map.shape
            place[:rows, :columns] = label_map.to(self.device, non_blocking=bool(self._non_blocking))
        return batch
