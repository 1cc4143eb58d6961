"""What heads take and give besides feature maps: facts of an image, its objects, what was found in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """How an image of a batch came to be; sizes in pixels.

    Attributes:
        image_size: (height, width) after resizing, before padding: where boxes may lie.
        original_size: (height, width) of the file's image.
        scale_factor: (x, y): image_size over original_size, width first, as OpenMMLab has it. The two differ a little
            where a side was rounded.
        batch_size: (height, width) of the batch's padded images; None before there is a batch.
        padded_size: (height, width) of this image alone, rounded up to the multiple that batches are padded to: anchors
            outside it are not trained. None before there is a batch: then those outside `batch_size`.
        flip: whether the image was mirrored left and right.
    """

    image_size: tuple[int, int]
    original_size: tuple[int, int]
    scale_factor: tuple[float, float] = (1.0, 1.0)
    batch_size: tuple[int, int] | None = None
    padded_size: tuple[int, int] | None = None
    flip: bool = False


class _Moving:
    """Lets a dataclass of tensors move as tensors do."""

    def _each(self, move: Callable[[torch.Tensor], torch.Tensor]):
        changes = {}
        for one in dataclasses.fields(self):  # pyright: ignore[reportArgumentType] (its subclasses are dataclasses)
            value = getattr(self, one.name)
            if isinstance(value, torch.Tensor):
                changes[one.name] = move(value)
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType, reportType]

    def to(self, device: torch.device | str, non_blocking: bool = False):
        """Gives a copy on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self):
        """Gives a copy in page-locked memory; torch's data loader asks for it."""
        return self._each(lambda tensor: tensor.pin_memory())


@dataclasses.dataclass
class Instances(_Moving):
    """The true objects of an image, for training; coordinates are those of the image that the model sees.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels.
        labels: (n,) int64, from 0.
        masks: (n, height, width) uint8 of 0 and 1, as large as the image or the padded batch; None where
            there are none.
        ignored_boxes: (m, 4) float32: crowds and others that are neither objects nor background; None where there are
            none.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None
    ignored_boxes: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclasses.dataclass
class Detections(_Moving):
    """What was found in an image, best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels.
        scores: (n,) float32, 0 to 1.
        labels: (n,) int64, from 0.
        masks: (n, height, width) bool, as large as the image; None where no masks are predicted.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)
