"""Transforms for segmentation: augmentation for training, resizing for evaluation, test-time augmentation.

Every transform takes an RGB image (h, w, 3) and a label map (h, w) or None, both uint8 arrays, and returns a dict with
uint8 tensors. The attribute `training` tells whether it is for training. Random numbers come from Python's global
generator, which the data set seeds for every sample.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ....heads.structures import ImageInfo
from ...registry import TRANSFORMS
from ..common.arguments import check_probability, check_scale
from ..common.photometric import distort
from ..common.resizing import fitted_size, next_multiple, resize_image, resize_labels

CROP_TRIES = 10
"""Maximum number of times that a crop with too much of one class is drawn again."""


@TRANSFORMS.register_module()
class SegmentationTrain:
    """mmsegmentation's augmentation for ADE20K and Pascal VOC.

    The image is resized by a random factor with its aspect ratio; cropped at random, and again (up to 10 times) if one
    class covers too much of the crop; flipped; and its colors are changed. An image smaller than the crop is not padded
    here: padding follows the normalization, in `DensePreprocessor`, where `train_size=(512, 512)` pads as published
    trainings did.

    Args:
        scale: Limits of the longer and the shorter side in pixels at factor 1.
        ratio_range: Minimum and maximum factor of `scale`.
        crop_size: (height, width) of the crop in pixels.
        cat_max_ratio: Maximum share of one class in the pixels of a crop that are not ignored; 1 accepts the first
            crop.
        flip: Probability of a horizontal flip.
        photometric: Whether to change brightness, contrast, saturation and hue (see `photometric.distort`).

    Raises:
        ValueError: If an argument is out of range.
    """

    training = True

    def __init__(
        self,
        scale: Sequence[int] = (2048, 512),
        ratio_range: Sequence[float] = (0.5, 2.0),
        crop_size: Sequence[int] = (512, 512),
        cat_max_ratio: float = 0.75,
        flip: float = 0.5,
        photometric: bool = True,
    ) -> None:
        self.scale = check_scale(scale)
        if len(ratio_range) != 2 or not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(
                "ratio_range must be the minimum and maximum factor, both positive, such as (0.5, 2.0), got "
                f"{ratio_range!r}."
            )
        self.ratio_range = (float(ratio_range[0]), float(ratio_range[1]))
        self.crop_size = check_scale(crop_size, "crop_size", "(512, 512)")
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"cat_max_ratio must be in (0, 1], got {cat_max_ratio!r}.")
        self.cat_max_ratio = cat_max_ratio
        check_probability("flip", flip)
        self.flip = flip
        self.photometric = photometric

    def __call__(self, image: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
        """Augments an image and its labels.

        Args:
            image: (h, w, 3) uint8, RGB.
            labels: (h, w) uint8.

        Returns:
            `image` (3, h, w) and `label_map` (h, w), uint8 tensors of one size, at most `crop_size`; `info`.

        Raises:
            ValueError: If there are no labels.
        """
        if labels is None:
            raise ValueError("SegmentationTrain needs labels. For a data set without labels, use SegmentationTest.")
        original = (image.shape[0], image.shape[1])
        factor = random.uniform(*self.ratio_range)
        size = fitted_size(*original, (max(1, int(self.scale[0] * factor)), max(1, int(self.scale[1] * factor))))
        labels = resize_labels(labels, size)
        rows, columns = self._crop(labels)
        image, labels = resize_image(image, size)[rows, columns], labels[rows, columns]
        flip = random.random() < self.flip
        if flip:
            image, labels = cv2.flip(image, 1), cv2.flip(labels, 1)
        if self.photometric:
            image = distort(image)
        return {
            "image": _to_tensor(image),
            "info": _info(image, original, size, flip),
            "label_map": torch.from_numpy(np.ascontiguousarray(labels)),
        }

    def _crop(self, labels: np.ndarray) -> tuple[slice, slice]:
        window = self._draw_window(labels.shape)
        if self.cat_max_ratio >= 1:
            return window
        for _ in range(CROP_TRIES):
            counts = cv2.calcHist([np.ascontiguousarray(labels[window])], [0], None, [256], [0, 256]).ravel()
            counts = counts[:IGNORE_INDEX]
            if counts.max() < self.cat_max_ratio * float(counts.sum()):  # False if all pixels are ignored
                break
            window = self._draw_window(labels.shape)
        return window

    def _draw_window(self, size: Sequence[int]) -> tuple[slice, slice]:
        height, width = self.crop_size
        top = random.randrange(max(size[0] - height, 0) + 1)
        left = random.randrange(max(size[1] - width, 0) + 1)
        return slice(top, top + height), slice(left, left + width)


class _ResizeTransform:
    """Resizes as in the evaluation of published models."""

    def __init__(self, scale: Sequence[int], keep_ratio: bool, resize_to_multiple: int | None) -> None:
        self.scale = check_scale(scale)
        self.keep_ratio = keep_ratio
        if resize_to_multiple is not None and (not isinstance(resize_to_multiple, int) or resize_to_multiple < 1):
            raise ValueError(f"resize_to_multiple must be None or an integer >= 1, got {resize_to_multiple!r}.")
        self.multiple = resize_to_multiple

    def _resized(self, image: np.ndarray, factor: float = 1.0) -> np.ndarray:
        longer, shorter = (max(1, int(side * factor)) for side in self.scale)
        size = fitted_size(image.shape[0], image.shape[1], (longer, shorter)) if self.keep_ratio else (shorter, longer)
        image = resize_image(image, size)
        return image if self.multiple is None else resize_image(image, next_multiple(*size, self.multiple))


@TRANSFORMS.register_module()
class SegmentationTest(_ResizeTransform):
    """Resizes the image for evaluation. Labels keep the size of the file, at which metrics are computed.

    Args:
        scale: Limits of the longer and the shorter side in pixels; without `keep_ratio`, width and height.
        keep_ratio: Whether to keep the aspect ratio.
        resize_to_multiple: If given, resize again so that both sides are rounded up to a multiple of it. 32 is what VAN
            (there called ResizeToMultiple), BiFormer's Semantic FPN and PoolFormer (AlignResize) were evaluated with.

    Raises:
        ValueError: If an argument is out of range.
    """

    training = False

    def __init__(
        self, scale: Sequence[int] = (2048, 512), keep_ratio: bool = True, resize_to_multiple: int | None = None
    ) -> None:
        super().__init__(scale, keep_ratio, resize_to_multiple)

    def __call__(self, image: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
        """Resizes an image.

        Args:
            image: (h, w, 3) uint8, RGB.
            labels: (h, w) uint8 or None.

        Returns:
            `image` (3, height, width) uint8; `info`; `label_map` (h, w) uint8, or None.
        """
        resized = self._resized(image)
        return {
            "image": _to_tensor(resized),
            "info": _info(resized, image.shape, resized.shape, False),
            "label_map": _labels_or_none(labels),
        }


@TRANSFORMS.register_module()
class SegmentationViews(_ResizeTransform):
    """Test-time augmentation: several scales of an image, and their flips. The task averages their predictions.

    Ratios multiply `scale`, as in mmsegmentation 0.x, with which published multi-scale metrics were computed.

    Args:
        ratios: Factors of `scale`, one per view.
        flip: Whether every view is also returned flipped horizontally.
        scale: See `SegmentationTest`.
        keep_ratio: See `SegmentationTest`.
        resize_to_multiple: See `SegmentationTest`.

    Raises:
        ValueError: If an argument is out of range.
    """

    training = False

    def __init__(
        self,
        ratios: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        flip: bool = True,
        scale: Sequence[int] = (2048, 512),
        keep_ratio: bool = True,
        resize_to_multiple: int | None = None,
    ) -> None:
        super().__init__(scale, keep_ratio, resize_to_multiple)
        if not ratios or not all(ratio > 0 for ratio in ratios):
            raise ValueError(f"ratios must be one or more positive factors, got {ratios!r}.")
        self.ratios = tuple(ratios)
        self.flip = flip

    def __call__(self, image: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
        """Creates the views.

        Args:
            image: (h, w, 3) uint8, RGB.
            labels: (h, w) uint8 or None.

        Returns:
            `views`: a list of dicts with `image` (3, height, width) uint8 and `info`; each view is followed by its
            flip. `label_map` (h, w) uint8, or None.
        """
        views: list[dict[str, Any]] = []
        for ratio in self.ratios:
            resized = self._resized(image, ratio)
            for flipped in (False, True) if self.flip else (False,):
                view = cv2.flip(resized, 1) if flipped else resized
                views.append({"image": _to_tensor(view), "info": _info(view, image.shape, view.shape, flipped)})
        return {"views": views, "label_map": _labels_or_none(labels)}


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def _labels_or_none(labels: np.ndarray | None) -> torch.Tensor | None:
    return None if labels is None else torch.from_numpy(labels)


def _info(image: np.ndarray, original: Sequence[int], resized: Sequence[int], flip: bool) -> ImageInfo:
    """Builds the `ImageInfo` of an image from the shapes of the file's image and of the resized one before the crop."""
    return ImageInfo(
        image_size=(image.shape[0], image.shape[1]),
        original_size=(original[0], original[1]),
        scale_factor=(resized[1] / original[1], resized[0] / original[0]),
        flip=flip,
    )
