"""Transforms for detection: resizing, flipping, cropping and color changes of images with instances.

Every transform takes an `AnnotatedImage` and returns a dict: `image` (3, height, width) uint8, `info`, and `target`
(None without annotations). The task's preprocessor pads and normalizes. Random numbers come from the global generators
of Python and NumPy, which the data set seeds for every sample. `DetectionSteps` combines transforms through `apply`,
which changes the `AnnotatedImage` before tensors are created.

OpenCV and NumPy transform images, boxes and masks, because Albumentations would transform the full bitmaps of all
instances in every step. `AlbumentationsDetection` provides what is missing here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...registry import TRANSFORMS
from ..common.arguments import check_choice, check_probability, check_scale
from ..common.photometric import distort
from ..common.resizing import fitted_size
from .annotated_image import AnnotatedImage

MULTI_SCALE = tuple((1333, short) for short in range(480, 801, 32))
"""Scales (long, short) of DETR's multi-scale training, in pixels."""
SCALES_BEFORE_CROP = ((4200, 400), (4200, 500), (4200, 600))
"""Scales (long, short) to which DETR resizes before a crop, in pixels."""
CROP_SIDES = (384, 600)
"""Minimum and maximum side of DETR's crop, in pixels."""


class DetectionTransform:
    """Base class of transforms of an image with its instances.

    Attributes:
        training: Whether the transform is for training.
    """

    training = True

    def apply(self, sample: AnnotatedImage) -> None:
        """Changes the sample in place."""
        raise NotImplementedError

    def __call__(self, sample: AnnotatedImage) -> dict[str, Any]:
        """Applies the transform and returns `image`, `info` and `target`."""
        self.apply(sample)
        return sample.pack()


@TRANSFORMS.register_module()
class DetectionTest(DetectionTransform):
    """Resizes for evaluation and keeps the aspect ratio.

    It uses OpenCV's bilinear interpolation without antialiasing, with which published detectors were trained and
    evaluated. It is not suitable for strong downscaling, which no published setting needs.

    Args:
        scale: Limits of the longer and the shorter side in pixels, in any order.

    Raises:
        ValueError: If the scale is not two positive integers.
    """

    training = False

    def __init__(self, scale: Sequence[int] = (1333, 800)) -> None:
        self.scale = check_scales("scale", [scale])[0]

    def apply(self, sample: AnnotatedImage) -> None:
        """Resizes in place."""
        sample.resize(*fitted_size(*sample.size, self.scale))


@TRANSFORMS.register_module()
class DetectionTrain(DetectionTransform):
    """The usual augmentation for training on COCO: resize and flip, optionally with DETR's crop.

    Args:
        mode: "single-scale" resizes to one scale; "multi-scale" to one of `scales`, drawn for each image; "range" to a
            scale drawn uniformly between the first and the last of `scales`; "detr" is "multi-scale" in which half of
            the images are first resized to a short side of 400, 500 or 600 and cropped to sides of 384 to 600 (Carion
            et al., DETR, ECCV 2020, section A.4; the usual augmentation of Swin and its successors).
        scales: Limits (long, short) of the sides in pixels. None is (1333, 800) for "single-scale", (1333, 480) to
            (1333, 800) in steps of 32 for "multi-scale" and "detr", (1333, 640) to (1333, 800) for "range".
        flip: Probability of a horizontal flip.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        mode: Literal["single-scale", "multi-scale", "range", "detr"] = "single-scale",
        scales: Sequence[Sequence[int]] | None = None,
        flip: float = 0.5,
    ) -> None:
        default_scales = {
            "single-scale": ((1333, 800),),
            "multi-scale": MULTI_SCALE,
            "range": ((1333, 640), (1333, 800)),
            "detr": MULTI_SCALE,
        }
        check_choice("mode of DetectionTrain", mode, default_scales)
        check_probability("flip", flip)
        self.mode = mode
        self.scales = check_scales("scales", default_scales[mode] if scales is None else scales)
        if mode == "single-scale" and len(self.scales) != 1:
            raise ValueError(
                f"mode='single-scale' takes one scale, got {len(self.scales)}. Did you mean mode='multi-scale'?"
            )
        self.flip = flip

    def apply(self, sample: AnnotatedImage) -> None:
        """Resizes, crops and flips in place."""
        if self.mode == "detr" and random.random() < 0.5:
            self._crop(sample)
        sample.resize(*fitted_size(*sample.size, self._draw_scale()))
        if random.random() < self.flip:
            sample.hflip()

    def _draw_scale(self) -> tuple[int, int]:
        if self.mode != "range":
            return random.choice(self.scales)
        (long, short), (longest, shortest) = self.scales[0], self.scales[-1]
        return random.randint(*sorted((long, longest))), random.randint(*sorted((short, shortest)))

    def _crop(self, sample: AnnotatedImage) -> None:
        height, width = fitted_size(*sample.size, random.choice(SCALES_BEFORE_CROP))
        sample.resize(height, width)
        shortest, longest = CROP_SIDES
        crop_height = random.randint(min(height, shortest), min(height, longest))
        crop_width = random.randint(min(width, shortest), min(width, longest))
        top, left = random.randint(0, height - crop_height), random.randint(0, width - crop_width)
        sample.crop(top, left, crop_height, crop_width)


@TRANSFORMS.register_module()
class LargeScaleJitter(DetectionTransform):
    """Resizes by a random factor and crops to a square (Ghiasi et al., Simple Copy-Paste, CVPR 2021).

    The image is resized, with its aspect ratio, to fit into a square of `scale` times `size`, and a random part of at
    most `size` by `size` is kept. That part is cropped before it is resized, which is faster. Its sides are integers in
    pixels of the original, so that the aspect ratio is off by at most half such a pixel. Smaller images are not padded:
    padding follows the normalization, in `DensePreprocessor`, where `size_divisor=1024` pads to 1024.

    Args:
        size: Side of the square in pixels.
        scale: Minimum and maximum factor.
        flip: Probability of a horizontal flip.
        boxes_from_masks: Whether boxes, where there are masks, are computed from the visible part of the mask.
            Otherwise they are only clipped at the border of the crop.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        size: int = 1024,
        scale: Sequence[float] = (0.1, 2.0),
        flip: float = 0.5,
        boxes_from_masks: bool = True,
    ) -> None:
        if size < 1 or int(size) != size:
            raise ValueError(f"size must be an integer >= 1 (pixels), got {size!r}.")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(
                f"scale must be the minimum and maximum factor, both positive, such as (0.1, 2.0), got {scale!r}."
            )
        check_probability("flip", flip)
        self.size = int(size)
        self.scale = (float(scale[0]), float(scale[1]))
        self.flip = flip
        self.boxes_from_masks = boxes_from_masks

    def apply(self, sample: AnnotatedImage) -> None:
        """Crops, resizes and flips in place."""
        height, width = sample.size
        side = max(1, round(self.size * random.uniform(*self.scale)))
        new_height, new_width = fitted_size(height, width, (side, side))
        crop = []
        for length, new in ((height, new_height), (width, new_width)):
            kept = length if new <= self.size else max(1, round(length * self.size / new))
            crop.append((random.randint(0, length - kept), kept))
        (top, crop_height), (left, crop_width) = crop
        sample.crop(top, left, crop_height, crop_width)
        sample.resize(min(new_height, self.size), min(new_width, self.size))
        sample.boxes_from_masks = self.boxes_from_masks
        if random.random() < self.flip:
            sample.hflip()


@TRANSFORMS.register_module()
class PhotometricDistortion(DetectionTransform):
    """Changes brightness, contrast, saturation and hue at random (Liu et al., SSD, ECCV 2016); see `photometric`.

    This is mmsegmentation's version; mmdet's also permutes the channels of half of the images.
    """

    def apply(self, sample: AnnotatedImage) -> None:
        """Changes the colors in place."""
        sample.image = distort(np.ascontiguousarray(sample.image))


@TRANSFORMS.register_module()
class DetectionSteps(DetectionTransform):
    """Several detection transforms in a row, such as large-scale jitter and Albumentations.

    Args:
        steps: Detection transforms, or their configs.

    Raises:
        ValueError: If there are no steps, or one is not a `DetectionTransform`.
    """

    def __init__(self, steps: Sequence[dict[str, Any] | DetectionTransform]) -> None:
        self.steps: list[DetectionTransform] = [
            TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps
        ]
        if not self.steps:
            raise ValueError("DetectionSteps needs steps, such as [dict(type='DetectionTrain')].")
        for step in self.steps:
            if not isinstance(step, DetectionTransform):
                raise ValueError(f"Steps of DetectionSteps must be detection transforms, got {type(step).__name__}.")
        self.training = any(step.training for step in self.steps)

    def apply(self, sample: AnnotatedImage) -> None:
        """Applies the steps in place."""
        for step in self.steps:
            step.apply(sample)


def check_scales(name: str, scales: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Returns scales as pairs (long, short).

    Raises:
        ValueError: If there are no scales, or one is not two positive integers.
    """
    if not scales:
        raise ValueError(f"{name} must not be empty.")
    pairs = [check_scale(scale, name, "(1333, 800)") for scale in scales]
    return [(max(pair), min(pair)) for pair in pairs]
