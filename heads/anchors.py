"""Anchors: boxes of fixed sizes and shapes around every cell of every map.

Ren et al., "Faster R-CNN", NeurIPS 2015 (arXiv:1506.01497), section 3.1; one size a level as in FPN (arXiv:1612.03144),
three a level as in RetinaNet (arXiv:1708.02002).
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
    """Lays the same anchors around every cell of a map; sizes grow with the level's stride.

    Cell (row, column) of a level is centred on (column * stride, row * stride). Coordinates are not rounded.

    Args:
        strides: pixels of the image between neighbouring cells, one number a level.
        ratios: heights over widths.
        scales: square roots of the areas, in strides. (8,) where no octave is given either.
        octave_base_scale: instead of scales, together with the next: the first of them.
        scales_per_octave: how many scales there are from one level to the next, spread evenly by ratio.

    Raises:
        ValueError: both kinds of scales or half of one, no ratios or strides, or such that are not positive.
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
            raise ValueError("octave_base_scale and scales_per_octave go together; one alone was given.")
        if octave_base_scale is not None and scales_per_octave is not None:
            if scales is not None:
                raise ValueError("Anchors have scales or octave_base_scale with scales_per_octave, not both.")
            scales = [octave_base_scale * 2 ** (step / scales_per_octave) for step in range(scales_per_octave)]
        scales = (8.0,) if scales is None else scales
        for name, numbers in (("strides", strides), ("ratios", ratios), ("scales", scales)):
            if not numbers or min(numbers) <= 0:
                raise ValueError(f"{name} are positive numbers, at least one, not {list(numbers)}.")
        self.strides = tuple(strides)
        self.ratios = tuple(ratios)
        self.scales = tuple(scales)

    @property
    def num_levels(self) -> int:
        """How many maps there are anchors for."""
        return len(self.strides)

    @property
    def num_anchors(self) -> int:
        """How many anchors a cell has, the same on every level."""
        return len(self.ratios) * len(self.scales)

    def base_anchors(self, level: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Gives the anchors of the cell at the origin: (num_anchors, 4), by ratio, then scale."""
        # float32 and in this order of operations, as in OpenMMLab, whose anchors these are to the last bit
        heights = torch.tensor(self.ratios, device=device).sqrt()
        scales = torch.tensor(self.scales, device=device, dtype=torch.float32)
        size = self.strides[level] * torch.stack((1 / heights, heights), dim=-1)
        half = (0.5 * size[:, None] * scales[:, None]).reshape(-1, 2)
        return torch.cat((-half, half), dim=-1)

    def grid_anchors(self, sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> list[torch.Tensor]:
        """Gives the anchors of maps of these sizes.

        Args:
            sizes: (rows, columns) of each level's map.
            device: where the anchors are made.

        Returns:
            For each level (rows * columns * num_anchors, 4), by row, then column, then anchor.

        Raises:
            ValueError: for another number of maps than of strides.
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
        """Tells which anchors belong to cells of an image, not to what the batch added to its right and below it.

        Args:
            sizes: (rows, columns) of each level's map.
            image_size: (height, width) of the image in pixels.
            device: where the flags are made.

        Returns:
            For each level (rows * columns * num_anchors,) bool, in the order of the anchors.

        Raises:
            ValueError: for another number of maps than of strides.
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
            raise ValueError(
                f"There are anchors for {len(self.strides)} strides {self.strides}, not {len(sizes)} maps."
            )
