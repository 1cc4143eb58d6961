"""From an image with its instances to a detector's sample: resizing, mirroring, cropping, colours.

Every transform takes an `AnnotatedImage` and gives a dict: `image` (3, height, width) uint8, `info`, and `target`
(None without annotations). Padding and normalising are the task's preprocessor's. What is random draws from Python's
and NumPy's global generators, which the data set seeds anew for every sample. `apply` is a transform's part before the
tensors are made, for `DetectionSteps`, which joins several.

Boxes, masks and images together are moved by OpenCV and NumPy: albumentations carries the bitmaps of all instances
through every step. `AlbumentationsDetection`, in a file of its own, runs its transforms for what is not here.
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
"""(long, short) of DETR's multi-scale training, in pixels."""
BEFORE_CROP = ((4200, 400), (4200, 500), (4200, 600))
"""(long, short) of DETR's resizing before a crop, in pixels."""
CROP_SIDES = (384, 600)
"""Least and most sides of DETR's crop, in pixels."""


class DetectionTransform:
    """A transform of an image with its instances.

    Attributes:
        training: whether it augments.
    """

    training = True

    def apply(self, sample: AnnotatedImage) -> None:
        """Changes the sample in place."""
        raise NotImplementedError

    def __call__(self, sample: AnnotatedImage) -> dict[str, Any]:
        """Gives `image`, `info` and `target`."""
        self.apply(sample)
        return sample.pack()


@TRANSFORMS.register_module()
class DetectionTest(DetectionTransform):
    """Resizes for evaluation, keeping proportions.

    It is OpenCV's bilinear interpolation without antialiasing, with which published detectors were trained and
    measured. To shrink by much, as no published setting does, it is not good.

    Args:
        scale: (long, short) sides that the image must fit in, in any order, in pixels.

    Raises:
        ValueError: the scale is not two positive whole numbers.
    """

    training = False

    def __init__(self, scale: Sequence[int] = (1333, 800)) -> None:
        self.scale = check_scales("scale", [scale])[0]

    def apply(self, sample: AnnotatedImage) -> None:
        """Resizes in place."""
        sample.resize(*fitted_size(*sample.size, self.scale))


@TRANSFORMS.register_module()
class DetectionTrain(DetectionTransform):
    """The usual augmentation for training on COCO: resizing and mirroring, and cropping in the way of DETR.

    Args:
        mode: "single-scale" fits the image in one size; "multi-scale" in one of `scales`, drawn for each image; "range"
            in a size drawn evenly between the first and the last of `scales`; "detr" is multi-scale, and in half of the
            images first a resize to a short side of 400, 500 or 600 and a crop with sides of 384 to 600 (Carion et al.,
            DETR, ECCV 2020, section A.4; the usual augmentation of Swin and its successors).
        scales: pairs of (long, short) sides in pixels. None is (1333, 800) for "single-scale", 480 to 800 in steps of
            32 by 1333 for "multi-scale" and "detr", 640 to 800 by 1333 for "range".
        flip: probability of mirroring left and right.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        mode: Literal["single-scale", "multi-scale", "range", "detr"] = "single-scale",
        scales: Sequence[Sequence[int]] | None = None,
        flip: float = 0.5,
    ) -> None:
        usual = {
            "single-scale": ((1333, 800),),
            "multi-scale": MULTI_SCALE,
            "range": ((1333, 640), (1333, 800)),
            "detr": MULTI_SCALE,
        }
        check_choice("mode of DetectionTrain", mode, usual)
        check_probability("flip", flip)
        self.mode = mode
        self.scales = check_scales("scales", usual[mode] if scales is None else scales)
        if mode == "single-scale" and len(self.scales) != 1:
            raise ValueError(
                f"mode='single-scale' takes one pair of scales, not {len(self.scales)}: mode='multi-scale'?"
            )
        self.flip = flip

    def apply(self, sample: AnnotatedImage) -> None:
        """Resizes, crops and mirrors in place."""
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
        height, width = fitted_size(*sample.size, random.choice(BEFORE_CROP))
        sample.resize(height, width)
        least, most = CROP_SIDES
        crop_height = random.randint(min(height, least), min(height, most))
        crop_width = random.randint(min(width, least), min(width, most))
        top, left = random.randint(0, height - crop_height), random.randint(0, width - crop_width)
        sample.crop(top, left, crop_height, crop_width)


@TRANSFORMS.register_module()
class LargeScaleJitter(DetectionTransform):
    """Resizes by a random factor and crops what is too large (Ghiasi et al., Simple Copy-Paste, CVPR 2021).

    An image becomes, in its own proportions, `scale` times as large as the square of `size`; of that, a part of at most
    `size` by `size` is taken at random. The part is cut out first and only then resized: its sides are whole pixels of
    the original, so that proportions differ by at most half such a pixel. Smaller images stay smaller: padding comes
    after normalising, in `DensePreprocessor`, whose `size_divisor=1024` pads to 1024.

    Args:
        size: side of the square in pixels.
        scale: least and most factor.
        flip: probability of mirroring left and right.
        boxes_from_masks: where there are masks, boxes become those of what is left of the mask; else they are only cut
            at the crop's border.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        size: int = 1024,
        scale: Sequence[float] = (0.1, 2.0),
        flip: float = 0.5,
        boxes_from_masks: bool = True,
    ) -> None:
        if size < 1 or int(size) != size:
            raise ValueError(f"size is a whole number of pixels, not {size!r}.")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale is the least and most factor, over 0, such as (0.1, 2.0), not {scale!r}.")
        check_probability("flip", flip)
        self.size = int(size)
        self.scale = (float(scale[0]), float(scale[1]))
        self.flip = flip
        self.boxes_from_masks = boxes_from_masks

    def apply(self, sample: AnnotatedImage) -> None:
        """Crops, resizes and mirrors in place."""
        height, width = sample.size
        side = max(1, round(self.size * random.uniform(*self.scale)))
        new_height, new_width = fitted_size(height, width, (side, side))
        parts = []
        for length, new in ((height, new_height), (width, new_width)):
            taken = length if new <= self.size else max(1, round(length * self.size / new))
            parts.append((random.randint(0, length - taken), taken))
        (top, crop_height), (left, crop_width) = parts
        sample.crop(top, left, crop_height, crop_width)
        sample.resize(min(new_height, self.size), min(new_width, self.size))
        sample.boxes_from_masks = self.boxes_from_masks
        if random.random() < self.flip:
            sample.hflip()


@TRANSFORMS.register_module()
class PhotometricDistortion(DetectionTransform):
    """Changes brightness, contrast, saturation and hue at random (Liu et al., SSD, ECCV 2016); see `photometric`.

    It is the one of semantic segmentation; mmdet's for detection also exchanges the channels in half of the images.
    """

    def apply(self, sample: AnnotatedImage) -> None:
        """Changes the colours."""
        sample.image = distort(np.ascontiguousarray(sample.image))


@TRANSFORMS.register_module()
class DetectionSteps(DetectionTransform):
    """Several transforms after each other, such as large-scale jitter and albumentations.

    Args:
        steps: configs of detection's transforms that have `apply`, or such objects.

    Raises:
        ValueError: there is none, or one is of another kind.
    """

    def __init__(self, steps: Sequence[dict[str, Any] | DetectionTransform]) -> None:
        self.steps: list[DetectionTransform] = [
            TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps
        ]
        if not self.steps:
            raise ValueError("DetectionSteps needs steps, such as [dict(type='DetectionTrain')].")
        for step in self.steps:
            if not isinstance(step, DetectionTransform):
                raise ValueError(f"A step of DetectionSteps is a transform of detection, not {type(step).__name__}.")
        self.training = any(step.training for step in self.steps)

    def apply(self, sample: AnnotatedImage) -> None:
        """Runs the steps in place."""
        for step in self.steps:
            step.apply(sample)


def check_scales(name: str, scales: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Checks pairs of sides and puts the longer first.

    Raises:
        ValueError: there is none, or one is not two positive whole numbers.
    """
    checked = []
    for scale in scales:
        try:
            first, second = check_scale(scale)
        except (ValueError, TypeError):
            raise ValueError(f"{name} holds a pair (long, short) of whole numbers of pixels, not {scale!r}.") from None
        checked.append((max(first, second), min(first, second)))
    if not checked:
        raise ValueError(f"{name} must not be empty.")
    return checked
