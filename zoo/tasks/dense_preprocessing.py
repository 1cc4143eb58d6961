"""From a batch of images of any sizes to one input: normalised, then padded."""

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
    """Moves a batch of images of different sizes to the model's device, normalises them there, and pads them.

    Padding is at the right and at the bottom and comes after normalising, so that it is the mean colour, as OpenMMLab's
    preprocessors have it.

    Args:
        mean: per channel, for pixel values in [0, 1], as timm has them.
        std: per channel, for pixel values in [0, 1].
        size_divisor: the batch's height and width are rounded up to a multiple of it: 32 for published detectors.
        train_size: least height and width of a batch in training, in pixels: the crop's for published segmentors.
        non_blocking: do not wait for the copy; needs `pin_memory=True` in the data loader.

    Raises:
        ValueError: see `ImagePreprocessor`; or `size_divisor` or a side of `train_size` is under 1.
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
            raise ValueError(f"train_size is height and width in pixels, not {train_size!r}.")
        self.train_size = (1, 1) if train_size is None else tuple(train_size)
        if not isinstance(size_divisor, int) or size_divisor < 1:
            raise ValueError(f"size_divisor is a whole number from 1 on, not {size_divisor!r}.")
        self.size_divisor = size_divisor

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Args:
            data: as `dense_collate` makes it. `image`: a list of (C, h, w), uint8 of 0 to 255 or float of 0 to 1, or
                one tensor (B, C, h, w). `info`: a list of ImageInfo; made up where there is none. Where there are any,
                `target`: a list of Instances; `label_map`: a list of (h, w); `views`: for each sample a list of dicts
                with `image` (C, h, w) and `info`, instead of `image` and `info`.
            training: whether label maps belong to the padded images, and `train_size` counts.

        Returns:
            The same keys. `image`: (B, C, H, W) float32. `info`: with `batch_size` and `padded_size` filled in.
            `target`: on the device, masks padded to (H, W). `label_map`: in training (B, H, W) int64, padded with 255;
            otherwise as it is, on the CPU. `views`: each with `image` (1, C, H, W) and `info`.

        Raises:
            ValueError: images have another number of channels than mean and std, or an image and its label map differ
                in size.
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
                raise ValueError(f"The images have {image.shape[0]} channels, mean and std have {channels}.")
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
                    f"A label map of {tuple(label_map.shape)} belongs to an image of {tuple(info.image_size)}: in "
                    "training the transform must give both one size."
                )
            rows, columns = label_map.shape
            place[:rows, :columns] = label_map.to(self.device, non_blocking=bool(self._non_blocking))
        return batch
