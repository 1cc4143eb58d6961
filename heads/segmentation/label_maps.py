"""From logits to label maps of the original image: windows, padding, flips, several views, as mmsegmentation does it.

What a head gives is a few times smaller than the image and cheap to keep; enlarged for all classes it would be
gigabytes (150 classes of 2048x2048 pixels: 2.5). So classes are enlarged in portions, and only the best one so far is
kept, which gives the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from .decode_head import resize

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels; the last two are the first row and column outside."""

PORTION = 2**26
"""Logits that are enlarged at a time: 256 MiB, all of ADE20K's 150 classes for its usual images."""


@dataclasses.dataclass(frozen=True)
class View:
    """What a model says of an image, as it saw it.

    Attributes:
        windows: logits (classes, h, w) of any size, each with the part of the padded image that they stand for. Where
            windows overlap, their average counts.
        padded_size: (height, width) of what the model saw.
        image_size: (height, width) without padding, which is at the right and at the bottom.
        original_size: (height, width) of the image before it was resized.
        flip: whether the image was mirrored left and right.
        align_corners: how maps are resized.
    """

    windows: Sequence[tuple[torch.Tensor, Box]]
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    original_size: tuple[int, int]
    flip: bool = False
    align_corners: bool = False

    @property
    def num_classes(self) -> int:
        """How many classes the logits are of."""
        return self.windows[0][0].shape[0]

    @property
    def classes_at_a_time(self) -> int:
        """How many classes are enlarged at a time."""
        (rows, columns), (height, width) = self.padded_size, self.original_size
        return max(1, PORTION // max(rows * columns, height * width, 1))

    def logits(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Gives the logits of the original image's pixels: windows enlarged and averaged, padding cut off, resized.

        Args:
            first: the first class.
            last: the class after the last one; None for all.

        Returns:
            (last - first, height, width) float32.
        """
        x = self._joined(first, self.num_classes if last is None else last)
        x = x[..., : self.image_size[0], : self.image_size[1]]
        x = x.flip(-1) if self.flip else x
        return resize(x[None], self.original_size, self.align_corners)[0]

    def _joined(self, first: int, last: int) -> torch.Tensor:
        """Enlarges the windows and puts them together to (classes, padded height, padded width)."""
        maps = [
            resize(small[None, first:last].float(), (bottom - top, right - left), self.align_corners)[0]
            for small, (top, left, bottom, right) in self.windows
        ]
        if len(maps) == 1:
            return maps[0]
        total = maps[0].new_zeros(last - first, *self.padded_size)
        times = maps[0].new_zeros(self.padded_size)
        for one, (_, (top, left, bottom, right)) in zip(maps, self.windows, strict=True):
            total[:, top:bottom, left:right] += one
            times[top:bottom, left:right] += 1
        return total / times


def sliding_windows(size: tuple[int, int], crop_size: tuple[int, int], stride: tuple[int, int]) -> list[Box]:
    """Lays windows over an image; the last ones of a row and column are moved back inside.

    Args:
        size: (height, width) of the image in pixels.
        crop_size: (height, width) of a window; where the image is smaller, so is the window.
        stride: (down, right) from one window to the next.
    """
    starts = []
    for whole, crop, step in zip(size, crop_size, stride, strict=True):
        count = -(-max(whole - crop, 0) // step) + 1
        starts.append([max(min(number * step, whole - crop), 0) for number in range(count)])
    (height, width), (rows, columns) = size, crop_size
    return [(top, left, min(top + rows, height), min(left + columns, width)) for top in starts[0] for left in starts[1]]


@torch.no_grad()
def best_classes(views: Sequence[View]) -> torch.Tensor:
    """Finds each pixel's class.

    Args:
        views: of one image. With several, the averages of their probabilities count.

    Returns:
        (height, width) int64 of the original image.
    """
    sizes = {view.original_size for view in views}
    assert len(sizes) == 1, f"views of different images: {sizes}"
    if len(views) == 1:
        return _best(views[0].logits, views[0])
    if min(view.classes_at_a_time for view in views) >= views[0].num_classes:
        total = views[0].logits().softmax(0)
        for view in views[1:]:
            total += view.logits().softmax(0)
        return total.max(0).indices
    # Each portion of a softmax needs its divisor, which is of all classes: very large images are enlarged twice.
    divisors = [_log_sum_exp(view) for view in views]

    def probabilities(first: int, last: int) -> torch.Tensor:
        total = (views[0].logits(first, last) - divisors[0]).exp()
        for view, divisor in zip(views[1:], divisors[1:], strict=True):
            total += (view.logits(first, last) - divisor).exp()
        return total

    return _best(probabilities, min(views, key=lambda view: view.classes_at_a_time))


def _best(scores: Callable[[int, int], torch.Tensor], view: View) -> torch.Tensor:
    """Finds the class with the best score, portion by portion; of equal ones the first."""
    best, label = scores(0, min(view.classes_at_a_time, view.num_classes)).max(0)
    for first in range(view.classes_at_a_time, view.num_classes, view.classes_at_a_time):
        value, place = scores(first, min(first + view.classes_at_a_time, view.num_classes)).max(0)
        better = value > best
        best = torch.where(better, value, best)
        label = torch.where(better, place + first, label)
    return label


def _log_sum_exp(view: View) -> torch.Tensor:
    """Gives the logarithm of the softmax's divisor (height, width)."""
    step = view.classes_at_a_time
    total = None
    for first in range(0, view.num_classes, step):
        part = view.logits(first, min(first + step, view.num_classes)).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total
