"""Anchors: boxes of fixed sizes and aspect ratios, centered on every cell of every feature map.

Ren et al., "Faster R-CNN", NeurIPS 2015 (arXiv:1506.01497), section 3.1; one size per level as in FPN
(arXiv:1612.03144), three per level as in RetinaNet (arXiv:1708.02002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch


class AnchorSettings(TypedDict, total=False):
    """Arguments of `AnchorGenerator` in a config."""

    strides: Sequence[int]
    ratios: Sequence[float]
    scales: Sequence[float]
    octave_base_scale: float
    scales_per_octave: int


class AnchorGenerator:
    """Generates the same anchors around every cell of a feature map; sizes scale with the level's stride.

    Cell (row, column) of a level is centered on (column * stride, row * stride). Coordinates are not rounded.

    Args:
        strides: Distance of neighboring cells in pixels of the image, one per level.
        ratios: Aspect ratios, height over width.
        scales: Anchor sizes (square roots of the areas) in multiples of the stride; (8,) by default.
        octave_base_scale: Smallest scale of an octave, an alternative to `scales`; requires `scales_per_octave`.
        scales_per_octave: Number of scales per octave, evenly spaced in the logarithm.

    Raises:
        ValueError: Both ways to give scales are used, or one half of the second; or strides, ratios or scales are
            empty or not positive.
    """

    def __init__(
        self,
        strides: Sequence[int],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        scales: Sequence[float] | None = None,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
    ) -> None:
        if (octave_base_scale is None) != (scales_per_octave is None):
            raise ValueError("octave_base_scale and scales_per_octave must be given together.")
        if octave_base_scale is not None and scales_per_octave is not None:
            if scales is not None:
                raise ValueError("Give either scales or octave_base_scale with scales_per_octave, not both.")
            scales = [octave_base_scale * 2 ** (step / scales_per_octave) for step in range(scales_per_octave)]
        scales = (8.0,) if scales is None else scales
        for name, numbers in (("strides", strides), ("ratios", ratios), ("scales", scales)):
            if not numbers or min(numbers) <= 0:
                raise ValueError(f"{name} must be a non-empty list of positive numbers, got {list(numbers)}.")
        self.strides = tuple(strides)
        self.ratios = tuple(ratios)
        self.scales = tuple(scales)

    @property
    def num_levels(self) -> int:
        """Number of feature maps that anchors are generated for."""
        return len(self.strides)

    @property
    def num_anchors(self) -> int:
        """Number of anchors per cell, the same on every level."""
        return len(self.ratios) * len(self.scales)

    def base_anchors(self, level: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Returns the anchors of the cell at the origin: (num_anchors, 4), ordered by ratio, then scale."""
        # In float32 and in this order of operations, so that anchors equal OpenMMLab's to the last bit.
        heights = torch.tensor(self.ratios, device=device).sqrt()
        scales = torch.tensor(self.scales, device=device, dtype=torch.float32)
        size = self.strides[level] * torch.stack((1 / heights, heights), dim=-1)
        half = (0.5 * size[:, None] * scales[:, None]).reshape(-1, 2)
        return torch.cat((-half, half), dim=-1)

    def grid_anchors(self, sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> list[torch.Tensor]:
        """Returns the anchors for feature maps of the given sizes.

        Args:
            sizes: (rows, columns) of each level's map.
            device: Device of the anchors.

        Returns:
            One tensor (rows * columns * num_anchors, 4) per level, ordered by row, column and anchor.

        Raises:
            ValueError: The number of maps differs from the number of strides.
        """
        self._check(sizes)
        anchors = []
        for level, ((rows, columns), stride) in enumerate(zip(sizes, self.strides, strict=True)):
            x = torch.arange(columns, device=device, dtype=torch.float32) * stride
            y = torch.arange(rows, device=device, dtype=torch.float32) * stride
            shifts = torch.stack((x.expand(rows, columns), y[:, None].expand(rows, columns)), dim=-1).repeat(1, 1, 2)
            anchors.append((shifts[:, :, None] + self.base_anchors(level, device)).reshape(-1, 4))
        return anchors

    def valid_flags(
        self, sizes: Sequence[Sequence[int]], image_size: Sequence[int], device: torch.device | str = "cpu"
    ) -> list[torch.Tensor]:
        """Flags the anchors whose cells are inside the image rather than in the padding to its right and bottom.

        Args:
            sizes: (rows, columns) of each level's map.
            image_size: (height, width) of the image in pixels.
            device: Device of the flags.

        Returns:
            One tensor (rows * columns * num_anchors,) bool per level, in the order of the anchors.

        Raises:
            ValueError: The number of maps differs from the number of strides.
        """
        self._check(sizes)
        flags = []
        for (rows, columns), stride in zip(sizes, self.strides, strict=True):
            inside_y = torch.arange(rows, device=device) < -(-image_size[0] // stride)
            inside_x = torch.arange(columns, device=device) < -(-image_size[1] // stride)
            cells = inside_y[:, None] & inside_x[None]
            flags.append(cells[..., None].expand(rows, columns, self.num_anchors).reshape(-1))
        return flags

    def _check(self, sizes: Sequence[Sequence[int]]) -> None:
        if len(sizes) != len(self.strides):
            raise ValueError(f"Expected one feature map per stride {self.strides}, got {len(sizes)} maps.")
