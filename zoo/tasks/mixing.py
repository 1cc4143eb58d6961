"""Mixup and CutMix."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from .losses import soft_labels


class Mixture(NamedTuple):
    """How a batch is mixed with the same batch in reverse order.

    Attributes:
        share: Weight of an image's own pixels and label (lambda in the papers), between 0 and 1.
        box: Top, bottom, left and right of the box that CutMix copies from the other image; None for mixup.
    """

    share: float
    box: tuple[int, int, int, int] | None


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) with the same parameters for a batch.

    This is timm's "batch" mode. Each image is mixed with its counterpart in the reversed batch, so that the middle
    image of an odd batch is unchanged.

    Attributes:
        mixup_alpha: Both parameters of the beta distribution for mixup's share; 0 disables mixup.
        cutmix_alpha: The same for CutMix.
        prob: Probability of mixing a batch.
        switch_prob: Probability of CutMix instead of mixup if both are enabled.
        label_smoothing: Smoothing of labels before they are mixed; applied to unmixed batches as well.
        cutmix_minmax: Minimum and maximum side of CutMix's box relative to the image; None draws its area instead.
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
            ValueError: A number is out of range, or both mixup and CutMix are disabled.
        """
        for name in ("mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"mixing.{name} must be >= 0, got {getattr(self, name)!r}.")
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"mixing.{name} must be between 0 and 1, got {getattr(self, name)!r}.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"mixing.label_smoothing must be >= 0 and < 1, got {self.label_smoothing!r}.")
        if self.cutmix_minmax is not None:
            if not 0 < self.cutmix_minmax[0] <= self.cutmix_minmax[1] <= 1:
                raise ValueError(f"mixing.cutmix_minmax must be ascending in (0, 1], got {self.cutmix_minmax}.")
        elif self.mixup_alpha == self.cutmix_alpha == 0:
            raise ValueError("mixing needs a positive mixup_alpha or cutmix_alpha. Leave `mixing` out to disable both.")

    def draw(self, seed: int, height: int, width: int) -> Mixture:
        """Draws how a batch is mixed.

        Args:
            seed: Seed of the random generator.
            height: Height of the images in pixels.
            width: Width of the images in pixels.

        Returns:
            The mixture. CutMix's share is the area outside of its box, after the box is clipped to the image.
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
            image: (B, C, H, W), any floating-point dtype. It is not modified.
            label: (B,) int64.
            num_classes: Number of classes.
            seed: Seed of the random generator.

        Returns:
            Images, targets (B, num_classes) float32, and for each image the label (B,) with the larger share.
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
