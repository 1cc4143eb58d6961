"""Mixing the images and labels of a batch: mixup and CutMix."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from .losses import soft_labels


class Mixture(NamedTuple):
    """How a batch is mixed with itself in reverse order.

    Attributes:
        share: of an image's own pixels and label, from 0 to 1.
        box: top, bottom, left and right of what CutMix takes from the other image; None for mixup.
    """

    share: float
    box: tuple[int, int, int, int] | None


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019), the same for a whole batch.

    This is timm's "batch" mode. Each image is mixed with the one at the same place from the batch's end; the middle one
    of an odd number stays as it is.

    Attributes:
        mixup_alpha: both parameters of the beta distribution that mixup's share is drawn from; 0 is no mixup.
        cutmix_alpha: the same for CutMix.
        prob: of mixing a batch at all.
        switch_prob: of CutMix rather than mixup where both are on.
        label_smoothing: of the labels before they are mixed, also where a batch is not mixed.
        cutmix_minmax: least and most side of CutMix's box as a fraction of the image's; None draws its area instead.
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    label_smoothing: float = 0.1
    cutmix_minmax: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: a number is out of its range, or neither mixup nor CutMix is on.
        """
        for name in ("mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"mixing.{name} is 0 (off) or more, not {getattr(self, name)!r}.")
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"mixing.{name} is a probability from 0 to 1, not {getattr(self, name)!r}.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"mixing.label_smoothing is from 0 to less than 1, not {self.label_smoothing!r}.")
        if self.cutmix_minmax is not None:
            if not 0 < self.cutmix_minmax[0] <= self.cutmix_minmax[1] <= 1:
                raise ValueError(f"mixing.cutmix_minmax is the least and most side in (0, 1]: {self.cutmix_minmax}.")
        elif self.mixup_alpha == self.cutmix_alpha == 0:
            raise ValueError("mixing needs mixup_alpha or cutmix_alpha over 0; leave `mixing` out for none.")

    def draw(self, seed: int, height: int, width: int) -> Mixture:
        """Draws how a batch is mixed.

        Args:
            seed: of the draw.
            height: of the images in pixels.
            width: of the images in pixels.

        Returns:
            The mixture; CutMix's share is the area that its box, clipped to the image, leaves.
        """
        generator = np.random.default_rng(seed)
        if generator.random() >= self.prob:
            return Mixture(1.0, None)
        cutmix = self.cutmix_alpha > 0 or self.cutmix_minmax is not None
        if cutmix and self.mixup_alpha > 0:
            cutmix = generator.random() < self.switch_prob
        if not cutmix:
            return Mixture(float(generator.beta(self.mixup_alpha, self.mixup_alpha)), None)
        if self.cutmix_minmax is not None:
            low, high = self.cutmix_minmax
            tall, wide = (int(side * generator.uniform(low, high)) for side in (height, width))
            top = int(generator.integers(height - tall, endpoint=True))
            left = int(generator.integers(width - wide, endpoint=True))
            box = (top, top + tall, left, left + wide)
        else:
            side = np.sqrt(1 - generator.beta(self.cutmix_alpha, self.cutmix_alpha))
            tall, wide = int(height * side), int(width * side)
            row, column = int(generator.integers(height)), int(generator.integers(width))
            box = (
                max(row - tall // 2, 0),
                min(row + (tall + 1) // 2, height),
                max(column - wide // 2, 0),
                min(column + (wide + 1) // 2, width),
            )
        return Mixture(1 - (box[1] - box[0]) * (box[3] - box[2]) / (height * width), box)

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, num_classes: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mixes a batch.

        Args:
            image: (B, C, H, W), any floating type; not written to.
            label: (B,) int64.
            num_classes: of the targets.
            seed: of the draw.

        Returns:
            The images; the targets (B, num_classes), float32; and the label (B,) with the larger share of each.
        """
        share, box = self.draw(seed, image.shape[-2], image.shape[-1])
        target = soft_labels(label, num_classes, self.label_smoothing)
        if share == 1.0:
            return image, target, label
        if box is None:
            image = image * share + image.flip(0) * (1 - share)
        else:
            top, bottom, left, right = box
            other = image.flip(0)[..., top:bottom, left:right]
            image = image.clone()
            image[..., top:bottom, left:right] = other
        target = target * share + target.flip(0) * (1 - share)
        return image, target, label if share >= 0.5 else label.flip(0)
