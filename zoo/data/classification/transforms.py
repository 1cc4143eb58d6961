"""Transforms for classification: augmentation for training, resizing and cropping for evaluation.

Every transform takes an RGB PIL image of any size and returns a uint8 tensor (3, height, width) with values of 0 to
255. That is a quarter of the float32 data that workers would otherwise send to the device, where the task's data
preprocessor normalizes it. The attribute `training` tells the two kinds apart. Random numbers come from the global
generators of Python, NumPy and torch, which the data set seeds for every sample.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import RandAugment, posterize, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import str_to_interp_mode, str_to_pil_interp
from timm.data.transforms_factory import create_transform
from torchvision import transforms
from torchvision.transforms import functional

from ...registry import TRANSFORMS
from ..common.arguments import check_choice, check_probability, check_size

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
ERASING_MODES = ("const", "rand", "pixel")


_POLICY = re.compile(r"rand(-(m\d+|n\d+|mmax\d+|inc[01]|(p|mstd)\d+(\.\d+)?|t(weights|3a|3aw)))*")


def _check_rand_augment(policy: str | None) -> None:
    """Raises a ValueError if a policy is malformed; timm silently ignores some unknown parts."""
    if policy is not None and not _POLICY.fullmatch(policy):
        raise ValueError(
            f"rand_augment must be None or 'rand' followed by any of -m, -n, -mmax, -inc, -p, -mstd with a number, and "
            f"-tweights, -t3a or -t3aw, as in 'rand-m9-mstd0.5-inc1', got {policy!r}."
        )


def _posterize(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    """Keeps the highest bits of each channel. RandAugment may draw 0 bits (black), which PIL's own function rejects."""
    return posterize(image, bits, **options) if bits > 0 else Image.new(image.mode, image.size)


def _with_zero_bits(augment: RandAugment) -> RandAugment:
    """Lets a RandAugment posterize to 0 bits."""
    for operation in augment.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return augment


class ErasePatch:
    """Erases a rectangle of a uint8 image (Zhong et al., Random Erasing, AAAI 2020), as timm does after normalization.

    timm fills with values drawn for normalized images. Here the image is normalized, erased and converted back, so that
    the preprocessor's normalization reproduces timm's values, up to rounding to integers and clipping to [0, 255] (2 to
    3 % of a normal distribution with ImageNet's mean and std). Other pixels do not change.

    Args:
        probability: Probability of erasing.
        mode: "const" fills with the mean color, "rand" with one random color, "pixel" with a random color per pixel.
        mean: Mean of the preprocessor per channel, for pixel values in [0, 1].
        std: Standard deviation of the preprocessor per channel, for pixel values in [0, 1].
        count: Maximum number of rectangles per image; the number is drawn from [1, count].
    """

    def __init__(
        self,
        probability: float,
        mode: str = "pixel",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        count: int = 1,
    ) -> None:
        check_probability("random_erasing", probability)
        check_choice("erasing_mode", mode, ERASING_MODES)
        self.probability = probability
        self.mean = torch.tensor(mean).view(-1, 1, 1) * 255
        self.std = torch.tensor(std).view(-1, 1, 1) * 255
        self.erase = RandomErasing(probability=1.0, mode=mode, max_count=count, device="cpu")

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Erases with the given probability; takes and returns (3, height, width) uint8."""
        if random.random() >= self.probability:
            return image
        normalized = self.erase((image - self.mean) / self.std)
        return (normalized * self.std + self.mean).round_().clamp_(0, 255).to(torch.uint8)


class _Compose:
    """Several steps in a row."""

    training: bool

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = list(steps)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Runs the steps and returns (3, height, width) uint8."""
        result: Any = image
        for step in self.steps:
            result = step(result)
        return result

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.steps))})"


@TRANSFORMS.register_module()
class ImageNetTrain(_Compose):
    """The usual augmentation for training on ImageNet, built by `timm.data.create_transform`.

    Random resized crop, horizontal flip, RandAugment (or color jitter without it), random erasing.

    Args:
        size: Output size in pixels: one number, or (height, width).
        scale: Minimum and maximum area of the crop, as a fraction of the image's area.
        ratio: Minimum and maximum aspect ratio (width / height) of the crop.
        interpolation: Interpolation of the resizing: "bicubic", "bilinear", ..., or "random" for one of these two.
        flip: Probability of a horizontal flip.
        rand_augment: RandAugment policy of timm, such as "rand-m9-mstd0.5-inc1": magnitude 9 with standard deviation
            0.5, and operations whose strength increases with the magnitude. None turns it off.
        color_jitter: Strength of brightness, contrast and saturation: one number or three (or four, with hue). As in
            timm, it is used only without RandAugment.
        random_erasing: Probability of erasing a rectangle.
        erasing_mode: Fill of the rectangle: "const", "rand" or "pixel"; see `ErasePatch`.
        mean: Mean of the preprocessor per channel, for pixel values in [0, 1]: RandAugment's fill color; see also
            `ErasePatch`.
        std: Standard deviation of the preprocessor per channel, for pixel values in [0, 1]; see `ErasePatch`.

    Raises:
        ValueError: If an argument is out of range.
    """

    training = True

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
        flip: float = 0.5,
        rand_augment: str | None = "rand-m9-mstd0.5-inc1",
        color_jitter: float | Sequence[float] | None = 0.4,
        random_erasing: float = 0.25,
        erasing_mode: str = "pixel",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        check_choice("interpolation", interpolation, (*INTERPOLATIONS, "random"))
        check_probability("flip", flip)
        _check_rand_augment(rand_augment)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be the minimum and maximum area of the crop in (0, 1], got {tuple(scale)}.")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be the minimum and maximum aspect ratio, both positive, got {tuple(ratio)}.")
        jitter: Any = tuple(color_jitter) if isinstance(color_jitter, Sequence) else color_jitter
        augment: Any = create_transform(
            check_size(size),
            is_training=True,
            scale=(scale[0], scale[1]),
            ratio=(ratio[0], ratio[1]),
            interpolation=interpolation,
            hflip=flip,
            auto_augment=rand_augment,
            color_jitter=jitter,
            mean=tuple(mean),
            std=tuple(std),
            normalize=False,
        )
        for step in augment.transforms:
            if isinstance(step, RandAugment):
                _with_zero_bits(step)
        super().__init__([augment, ErasePatch(random_erasing, erasing_mode, mean, std)])


class _ResizeToCover:
    """Resizes an image to the smallest size that covers (height, width) and keeps its aspect ratio."""

    def __init__(self, height: int, width: int, interpolation: str) -> None:
        self.height, self.width = height, width
        self.interpolation = str_to_interp_mode(interpolation)

    def __call__(self, image: Image.Image) -> Image.Image:
        factor = max(self.height / image.height, self.width / image.width)
        if factor == 1:
            return image
        size = [max(self.height, round(image.height * factor)), max(self.width, round(image.width * factor))]
        resized: Any = functional.resize(image, size, self.interpolation)  # pyright: ignore[reportArgumentType] (PIL too)
        return resized


@TRANSFORMS.register_module()
class SmallImageTrain(_Compose):
    """Augmentation for small images such as CIFAR's: pad and crop, flip, RandAugment, random erasing.

    Images of another size are first resized to cover `size`.

    Args:
        size: Output size in pixels: one number, or (height, width).
        padding: Pixels added at each side before the random crop of `size`.
        padding_mode: "constant" pads with black, "reflect", "symmetric" and "edge" with the image's own pixels.
        interpolation: Interpolation of the resizing and of RandAugment.
        flip: Probability of a horizontal flip. Use 0 for digits and letters.
        rand_augment: RandAugment policy of timm, such as "rand-m9-mstd0.5-inc1", or None.
        random_erasing: Probability of erasing a rectangle.
        erasing_mode: Fill of the rectangle: "const", "rand" or "pixel"; see `ErasePatch`.
        mean: Mean of the preprocessor per channel, for pixel values in [0, 1]: RandAugment's fill color; see also
            `ErasePatch`.
        std: Standard deviation of the preprocessor per channel, for pixel values in [0, 1]; see `ErasePatch`.

    Raises:
        ValueError: If an argument is out of range.
    """

    training = True

    def __init__(
        self,
        size: int | Sequence[int] = 32,
        padding: int = 4,
        padding_mode: str = "constant",
        interpolation: str = "bicubic",
        flip: float = 0.5,
        rand_augment: str | None = None,
        random_erasing: float = 0.0,
        erasing_mode: str = "pixel",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        check_choice("padding_mode", padding_mode, ("constant", "reflect", "edge", "symmetric"))
        check_probability("flip", flip)
        _check_rand_augment(rand_augment)
        height, width = check_size(size)
        if not 0 <= padding < min(height, width):
            raise ValueError(f"padding must be in [0, {min(height, width)}) (less than size), got {padding!r}.")
        steps: list[Any] = [
            _ResizeToCover(height, width, interpolation),
            transforms.RandomCrop((height, width), padding=padding or None, padding_mode=padding_mode),
            transforms.RandomHorizontalFlip(flip),
        ]
        if rand_augment is not None:
            options = {
                "translate_const": int(min(height, width) * 0.45),
                "img_mean": tuple(min(255, round(255 * value)) for value in mean),
                "interpolation": str_to_pil_interp(interpolation),
            }
            steps.append(_with_zero_bits(rand_augment_transform(rand_augment, options)))
        super().__init__([*steps, transforms.PILToTensor(), ErasePatch(random_erasing, erasing_mode, mean, std)])


@TRANSFORMS.register_module()
class Evaluation(_Compose):
    """Resizing with PIL and cropping, built by `timm.data.create_transform`, as published accuracies were measured.

    Args:
        size: Output size in pixels: one number, or (height, width).
        crop_pct: Side of the crop / shorter side of the resized image.
        crop_mode: "center" keeps the aspect ratio and drops what is outside of the crop; "squash" changes the aspect
            ratio and, with `crop_pct` 1, drops nothing; "border" keeps the aspect ratio and pads with the mean color.
        interpolation: Interpolation of PIL.
        mean: Mean of the preprocessor per channel, for pixel values in [0, 1]: the color of the border.

    Attributes:
        preprocessing: `size` (height and width) and the other settings that matter, under the names of
            `PretrainedCfg`. Checkpoints record them.

    Raises:
        ValueError: If an argument is out of range.
    """

    training = False

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        crop_pct: float = 0.875,
        crop_mode: str = "center",
        interpolation: str = "bicubic",
        mean: Sequence[float] = IMAGENET_MEAN,
    ) -> None:
        check_choice("crop_mode", crop_mode, CROP_MODES)
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        if not 0 < crop_pct <= 1:
            raise ValueError(f"crop_pct must be in (0, 1], got {crop_pct!r}.")
        resize: Any = create_transform(
            check_size(size),
            is_training=False,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
            interpolation=interpolation,
            mean=tuple(mean),
            normalize=False,
        )
        super().__init__([resize])
        self.preprocessing: dict[str, Any] = {
            "size": check_size(size),
            "crop_pct": crop_pct,
            "crop_mode": crop_mode,
            "interpolation": interpolation,
        }
        if crop_mode == "border":
            self.preprocessing["mean"] = tuple(mean)
