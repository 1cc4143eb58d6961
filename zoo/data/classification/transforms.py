"""From a decoded image to a tensor: augmentation for training, resizing and cropping for evaluation.

Every transform takes an RGB PIL image of any size and returns a uint8 tensor (3, height, width), values 0 to 255: a
quarter of what float32 would send from the workers to the device, where the task's data preprocessor normalises it.
`training` says which kind it is. What is random draws from Python's, NumPy's and torch's global generators, which the
data set seeds anew for every sample.
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
    """Raises for what is no policy; timm leaves out in silence some of the parts that it does not know."""
    if policy is not None and not _POLICY.fullmatch(policy):
        raise ValueError(
            f"rand_augment is None or 'rand' followed by any of -m, -n, -mmax, -inc, -p, -mstd with a number, and "
            f"-tweights, -t3a or -t3aw, as in 'rand-m9-mstd0.5-inc1'; not {policy!r}."
        )


def _posterize(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    """Keeps the highest bits of each channel; none at all (black), too, which is drawn, but which PIL's own refuses."""
    return posterize(image, bits, **options) if bits > 0 else Image.new(image.mode, image.size)


def _with_zero_bits(augment: RandAugment) -> RandAugment:
    """Lets a RandAugment posterize to black."""
    for operation in augment.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return augment


class ErasePatch:
    """Erases a rectangle of a uint8 image (Zhong et al., Random Erasing, AAAI 2020), as timm does after normalising.

    timm fills with values drawn for normalised images. Here the image is normalised, erased, and turned back, so that
    the preprocessor's normalising gives timm's values, up to rounding to whole gray levels and clipping at black and
    white (2 to 3 % of a normal distribution with ImageNet's mean and std). Other pixels are not touched.

    Args:
        probability: of erasing at all.
        mode: "const" fills with the mean colour, "rand" with one random colour, "pixel" with noise, a colour a pixel.
        mean: per channel, pixel values in [0, 1]; the preprocessor's.
        std: per channel, pixel values in [0, 1]; the preprocessor's.
        count: most rectangles in an image; their number is random from 1 on.
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
        """Erases with the probability given; (3, height, width) uint8 in and out."""
        if random.random() >= self.probability:
            return image
        normalised = self.erase((image - self.mean) / self.std)
        return (normalised * self.std + self.mean).round_().clamp_(0, 255).to(torch.uint8)


class _Compose:
    """A transform of several steps."""

    training: bool

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = list(steps)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Runs the steps; (3, height, width) uint8 out."""
        result: Any = image
        for step in self.steps:
            result = step(result)
        return result

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.steps))})"


@TRANSFORMS.register_module()
class ImageNetTrain(_Compose):
    """The usual augmentation of training on ImageNet, made by `timm.data.create_transform`.

    Random crop resized to `size`, flip, RandAugment (or colour jitter, where that is off), random erasing.

    Args:
        size: of the output in pixels: one number, or (height, width).
        scale: least and most area of the crop, as a fraction of the image's.
        ratio: least and most ratio of width to height of the crop.
        interpolation: of the resizing: "bicubic", "bilinear", ..., or "random" for one of these two each time.
        flip: probability of mirroring left and right.
        rand_augment: a policy of timm, "rand-m9-mstd0.5-inc1": magnitude 9, its standard deviation 0.5, and operations
            that grow stronger with it; None for none.
        color_jitter: strength of brightness, contrast and saturation, one number or three (or four, with hue). As in
            timm, it is used only without RandAugment.
        random_erasing: probability of erasing a rectangle.
        erasing_mode: see `ErasePatch`.
        mean: per channel, pixel values in [0, 1]: what RandAugment fills with, and see `ErasePatch`. Give the
            preprocessor's.
        std: per channel, pixel values in [0, 1]; see `ErasePatch`. Give the preprocessor's.

    Raises:
        ValueError: an argument is out of range.
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
            raise ValueError(f"scale is the least and most area of the crop, within (0, 1], not {tuple(scale)}.")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio is the least and most ratio of width to height, not {tuple(ratio)}.")
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
    """Resizes an image so that it just covers (height, width), keeping its proportions, where it does not already."""

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
    """Augmentation of small images, such as CIFAR's: pad and crop, flip, RandAugment, random erasing.

    An image of another size is first resized to cover `size`.

    Args:
        size: of the output in pixels: one number, or (height, width).
        padding: pixels added at each side before a crop of `size` is taken at random.
        padding_mode: "constant" pads with black, "reflect" and "edge" with the image's own pixels.
        interpolation: of the resizing and of RandAugment.
        flip: probability of mirroring left and right. 0 for digits and letters.
        rand_augment: a policy of timm, such as "rand-m9-mstd0.5-inc1", or None.
        random_erasing: probability of erasing a rectangle.
        erasing_mode: see `ErasePatch`.
        mean: per channel, pixel values in [0, 1]: what RandAugment fills with, and see `ErasePatch`. Give the
            preprocessor's.
        std: per channel, pixel values in [0, 1]; see `ErasePatch`. Give the preprocessor's.

    Raises:
        ValueError: an argument is out of range.
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
            raise ValueError(f"padding is a number of pixels from 0 to less than size, not {padding!r}.")
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
    """Resizing by PIL and cropping, made by `timm.data.create_transform`: what published accuracies were measured with.

    Args:
        size: of the output in pixels: one number, or (height, width).
        crop_pct: side of the crop over the resized image's shorter side.
        crop_mode: "center" keeps proportions and loses what lies outside; "squash" does not keep them and loses nothing
            where `crop_pct` is 1; "border" keeps them and pads with the mean colour.
        interpolation: of PIL.
        mean: per channel, pixel values in [0, 1]: the border's colour.

    Raises:
        ValueError: an argument is out of range.
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
            raise ValueError(f"crop_pct is a fraction over 0 and up to 1, not {crop_pct!r}.")
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
