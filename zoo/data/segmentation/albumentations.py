"""Albumentations transforms for segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ....heads.structures import ImageInfo
from ...registry import TRANSFORMS
from ..common.albumentations import build_transforms, library, reseed


@TRANSFORMS.register_module()
class AlbumentationsSegmentation:
    """Applies Albumentations transforms, given by name, to images and label maps.

    Label maps are resampled by the nearest pixel; pixels from beyond the image's border get the label 255.

    Args:
        transforms: One dict per transform, such as dict(type="RandomResizedCrop", size=(512, 512)). `OneOf` and other
            compositions have `transforms` of the same form.
        training: Whether label maps are transformed, too. In evaluation they keep the size of the file.

    Raises:
        ValueError: If a transform or an argument does not exist, or a value is out of range.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], training: bool = True) -> None:
        self.training = training
        self._compose: Any = library().Compose(build_transforms(transforms, IGNORE_INDEX))

    def __call__(self, image: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
        """Transforms an image, and in training its labels.

        Args:
            image: (h, w, 3) uint8, RGB.
            labels: (h, w) uint8; None only in evaluation.

        Returns:
            `image` (3, height, width) uint8; `info`, whose `flip` is unknown and False; `label_map` (h, w) uint8.

        Raises:
            ValueError: If there are no labels in training, or the result is not a uint8 image.
        """
        if labels is None and self.training:
            raise ValueError("Transforms for training need labels. For a data set without labels, set training=False.")
        reseed(self._compose)
        given = {"image": image} | ({"mask": labels} if self.training else {})
        result = self._compose(**given)
        changed, moved = result["image"], result["mask"] if self.training else labels
        if not isinstance(changed, np.ndarray) or changed.dtype != np.uint8 or changed.shape[2:] != (3,):
            kind = f"{changed.dtype} of shape {tuple(changed.shape)}"
            raise ValueError(
                f"Albumentations transforms must return a uint8 image (height, width, 3), got {kind}: leave out "
                "Normalize, ToFloat and ToTensorV2, because the task's data_preprocessor does their work."
            )
        size, original = (changed.shape[0], changed.shape[1]), (image.shape[0], image.shape[1])
        return {
            "image": torch.from_numpy(np.array(changed.transpose(2, 0, 1), order="C")),
            "info": ImageInfo(size, original, (size[1] / original[1], size[0] / original[0])),
            "label_map": None if moved is None else torch.from_numpy(np.array(moved, order="C")),
        }
