"""From an image with its instances to a detector's sample: resizing, mirroring and cropping.

Every transform takes an `AnnotatedImage` and gives a dict: `image` (3, height, width) uint8, `info`, and `target`
(None without annotations). Padding and normalising are the task's preprocessor's. What is random draws from Python's
and NumPy's global generators, which the data set seeds anew for every sample. `apply` is a transform's part before the
tensors are made, for `DetectionSteps`, which joins several.

Boxes, masks and images together are moved by OpenCV and NumPy: albumentations carries the bitmaps of all instances
through every step. `AlbumentationsDetection` runs its transforms for what is not here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

from ...names import unknown_name
from ..registry import TRANSFORMS
from .annotated_image import AnnotatedImage
from .transforms import _check_probability

MULTI_SCALE = tuple((1333, short) for short in range(480, 801, 32))
"""(long, short) of DETR's multi-scale training, in pixels."""
BEFORE_CROP = ((4200, 400), (4200, 500), (4200, 600))
"""(long, short) of DETR's resizing before a crop, in pixels."""
CROP_SIDES = (384, 600)
"""Least and most sides of DETR's crop, in pixels."""


def fitted_size(height: int, width: int, scale: Sequence[int]) -> tuple[int, int]:
    """Finds the largest size of an image's proportions within (long, short), rounded as OpenMMLab does.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        scale: the most that the longer and the shorter side may be, in any order, in pixels.

    Returns:
        (height, width).
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


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
        if mode not in usual:
            raise ValueError(unknown_name("mode of DetectionTrain", mode, usual))
        _check_probability("flip", flip)
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
            sample.mirror()

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


def check_scales(name: str, scales: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Checks pairs of sides and puts the longer first.

    Raises:
        ValueError: there is none, or one is not two positive whole numbers.
    """
    checked = []
    for scale in scales:
        sides = list(scale) if isinstance(scale, Sequence) else []
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f"{name} holds a pair (long, short) of whole numbers of pixels, not {scale!r}.")
        checked.append((max(sides), min(sides)))
    if not checked:
        raise ValueError(f"{name} must not be empty.")
    return checked
