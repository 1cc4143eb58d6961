"""Inputs and outputs of heads besides feature maps: image metadata, ground truth, detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """Metadata of an image in a batch; sizes in pixels.

    Attributes:
        image_size: (height, width) after resizing, before padding.
        original_size: (height, width) of the original image.
        scale_factor: (x, y) ratio of image_size to original_size, width first, as in OpenMMLab. The two values differ
            slightly when a side was rounded.
        batch_size: (height, width) of the padded batch; None before batching.
        padded_size: (height, width) of this image rounded up to the padding multiple; anchors outside it are not
            trained. None before batching: then anchors outside `batch_size` are not trained.
        flip: Whether the image was flipped horizontally.
    """

    image_size: tuple[int, int]
    original_size: tuple[int, int]
    scale_factor: tuple[float, float] = (1.0, 1.0)
    batch_size: tuple[int, int] | None = None
    padded_size: tuple[int, int] | None = None
    flip: bool = False


class _TensorDataclass:
    """Adds `to` and `pin_memory` to a dataclass of tensors."""

    def _apply(self, function: Callable[[torch.Tensor], torch.Tensor]):
        changes = {}
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType] (its subclasses are dataclasses)
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                changes[field.name] = function(value)
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType, reportType]

    def to(self, device: torch.device | str, non_blocking: bool = False):
        """Returns a copy on a device."""
        return self._apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self):
        """Returns a copy in page-locked memory; called by torch's data loader."""
        return self._apply(lambda tensor: tensor.pin_memory())


@dataclasses.dataclass
class Instances(_TensorDataclass):
    """Ground-truth objects of an image; coordinates refer to the network input.

    Attributes:
        boxes: (n, 4) float32, (x1, y1, x2, y2) in pixels.
        labels: (n,) int64, from 0.
        masks: (n, height, width) uint8 of 0 and 1, in the size of the image or the padded batch; None without masks.
        ignored_boxes: (m, 4) float32: crowds and other regions that count neither as objects nor as background; None
            without any.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None
    ignored_boxes: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclasses.dataclass
class Detections(_TensorDataclass):
    """Detected objects of an image, best first.

    Attributes:
        boxes: (n, 4) float32, (x1, y1, x2, y2) in pixels.
        scores: (n,) float32, in [0, 1].
        labels: (n,) int64, from 0.
        masks: (n, height, width) bool in the size of the image; None if no masks are predicted.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)
