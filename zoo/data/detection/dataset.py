"""What data sets of object detection and instance segmentation share."""

from __future__ import annotations

from typing import Any, ClassVar

from ..common.dataset import ImageDataset
from .annotated_image import AnnotatedImage


class DetectionDataset(ImageDataset):
    """Images with boxes and, optionally, instance masks. Subclasses find the files and know the classes.

    `load` returns an `AnnotatedImage` with its instances, which the transform takes. A transform that is not for
    training gets the image alone. A sample has what the transform returns (`image`, `info` and `target`, or `views`)
    and `image_id`.

    A subclass with an attribute `aspect_ratios` (width / height of each image) works with `AspectRatioBatchSampler`.
    """

    kind: ClassVar[str] = "detection"
    transform_example: ClassVar[str] = "dict(type='DetectionTest', scale=(1333, 800))"

    def load(self, index: int) -> AnnotatedImage:
        """Reads an image and its instances.

        Raises:
            BrokenImageError: If the image cannot be read.
        """
        raise NotImplementedError

    def image_id(self, index: int) -> int:
        """Returns an image's id for evaluation: the index, unless a subclass has ids of its own."""
        return index

    def transform_sample(self, loaded: AnnotatedImage, index: int) -> dict[str, Any]:
        """Returns the result of the transform and `image_id`."""
        if not self.training:
            loaded = AnnotatedImage(loaded.image, loaded.original_size)
        return {**self.transform(loaded), "image_id": self.image_id(index)}
