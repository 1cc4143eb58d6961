"""Converts logits to label maps of the original image: windows, padding, flips, several views.

A head's logits are a few times smaller than the image and cheap to keep. Upsampled for all classes they would take
gigabytes (2.5 GB for 150 classes of 2048x2048 pixels). So classes are upsampled in chunks, and only the best class so
far is kept, which gives the same result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from .decode_head import resize

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels; bottom and right are exclusive."""

CHUNK = 2**26
"""Number of logits upsampled at a time: 256 MiB, which fits ADE20K's 150 classes at its usual image sizes."""


@dataclasses.dataclass(frozen=True)
class View:
    """Predictions for one view of an image (a scale, possibly flipped).

    Attributes:
        windows: Logits (classes, h, w) of any size, each with the rectangle of the padded image that they cover.
            Overlapping windows are averaged.
        padded_size: (height, width) of the network input.
        image_size: (height, width) without padding, which is at the right and bottom.
        original_size: (height, width) of the image before resizing.
        flip: Whether the image was flipped horizontally.
        align_corners: As in `torch.nn.functional.interpolate`.
    """

    windows: Sequence[tuple[torch.Tensor, Box]]
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    original_size: tuple[int, int]
    flip: bool = False
    align_corners: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes of the logits."""
        return self.windows[0][0].shape[0]

    @property
    def classes_per_chunk(self) -> int:
        """Number of classes upsampled at a time."""
        (rows, columns), (height, width) = self.padded_size, self.original_size
        return max(1, CHUNK // max(rows * columns, height * width, 1))

    def logits(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Returns the logits at the size of the original image.

        Windows are upsampled and averaged, padding is removed, and the result is resized.

        Args:
            first: First class.
            last: End of the range of classes, exclusive; None for all.

        Returns:
            (last - first, height, width) float32.
        """
        x = self._merge_windows(first, self.num_classes if last is None else last)
        x = x[..., : self.image_size[0], : self.image_size[1]]
        x = x.flip(-1) if self.flip else x
        return resize(x[None], self.original_size, self.align_corners)[0]

    def _merge_windows(self, first: int, last: int) -> torch.Tensor:
        """Upsamples the windows and merges them to (classes, padded height, padded width)."""
        maps = [
            resize(small[None, first:last].float(), (bottom - top, right - left), self.align_corners)[0]
            for small, (top, left, bottom, right) in self.windows
        ]
        if len(maps) == 1:
            return maps[0]
        logits_sum = maps[0].new_zeros(last - first, *self.padded_size)
        count = maps[0].new_zeros(self.padded_size)
        for window, (_, (top, left, bottom, right)) in zip(maps, self.windows, strict=True):
            logits_sum[:, top:bottom, left:right] += window
            count[top:bottom, left:right] += 1
        return logits_sum / count


def sliding_windows(size: tuple[int, int], crop_size: tuple[int, int], stride: tuple[int, int]) -> list[Box]:
    """Returns windows that cover an image; the last ones of each row and column are shifted to stay inside.

    Args:
        size: (height, width) of the image in pixels.
        crop_size: (height, width) of a window; limited to the image's size.
        stride: (vertical, horizontal) distance of neighboring windows.
    """
    starts = []
    for length, crop, step in zip(size, crop_size, stride, strict=True):
        count = -(-max(length - crop, 0) // step) + 1
        starts.append([max(min(index * step, length - crop), 0) for index in range(count)])
    (height, width), (rows, columns) = size, crop_size
    return [(top, left, min(top + rows, height), min(left + columns, width)) for top in starts[0] for left in starts[1]]


@torch.no_grad()
def best_classes(views: Sequence[View]) -> torch.Tensor:
    """Returns the class of each pixel.

    Args:
        views: Views of one image; probabilities of several views are averaged.

    Returns:
        (height, width) int64 in the size of the original image.
    """
    sizes = {view.original_size for view in views}
    assert len(sizes) == 1, f"views of different images: {sizes}"
    if len(views) == 1:
        return _argmax_in_chunks(views[0].logits, views[0])
    if min(view.classes_per_chunk for view in views) >= views[0].num_classes:
        probs = views[0].logits().softmax(0)
        for view in views[1:]:
            probs += view.logits().softmax(0)
        return probs.max(0).indices
    # The softmax of a chunk needs the denominator over all classes, so very large images are upsampled twice.
    log_denominators = [_log_sum_exp(view) for view in views]

    def probabilities(first: int, last: int) -> torch.Tensor:
        probs = (views[0].logits(first, last) - log_denominators[0]).exp()
        for view, log_denominator in zip(views[1:], log_denominators[1:], strict=True):
            probs += (view.logits(first, last) - log_denominator).exp()
        return probs

    return _argmax_in_chunks(probabilities, min(views, key=lambda view: view.classes_per_chunk))


def _argmax_in_chunks(scores: Callable[[int, int], torch.Tensor], view: View) -> torch.Tensor:
    """Returns the class with the highest score, chunk by chunk; the first one of equal scores."""
    best, label = scores(0, min(view.classes_per_chunk, view.num_classes)).max(0)
    for first in range(view.classes_per_chunk, view.num_classes, view.classes_per_chunk):
        value, index = scores(first, min(first + view.classes_per_chunk, view.num_classes)).max(0)
        better = value > best
        best = torch.where(better, value, best)
        label = torch.where(better, index + first, label)
    return label


def _log_sum_exp(view: View) -> torch.Tensor:
    """Returns the logarithm of the softmax's denominator (height, width)."""
    step = view.classes_per_chunk
    total = None
    for first in range(0, view.num_classes, step):
        part = view.logits(first, min(first + step, view.num_classes)).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total
