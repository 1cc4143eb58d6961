"""Albumentations transforms for detection, with workarounds for what the library does wrong or silently.

In addition to `common.albumentations`: Albumentations drops boxes but keeps their masks, so each instance carries its
index as a label, which tells whose mask is whose. It fails on boxes outside of the image, which are clipped here, and
on empty lists of masks, which are not passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...registry import TRANSFORMS
from ..common.albumentations import build_transforms, library, reseed
from .annotated_image import AnnotatedImage, AxisAlignedAffine, masks_to_boxes
from .transforms import DetectionTransform


@TRANSFORMS.register_module()
class AlbumentationsDetection(DetectionTransform):
    """Applies Albumentations transforms, given by name, to an image and its instances.

    Transforms that change only pixel values are cheap. As soon as one of them is geometric, Albumentations transforms
    the full bitmaps of all instances: `DetectionTrain` and `LargeScaleJitter` are faster at what they do. Use
    `DetectionSteps` to combine them.

    Args:
        transforms: Dicts with `type`, an Albumentations class, and its arguments. Those of a composition
            (dict(type="OneOf", transforms=[...])) have the same form.
        boxes_from_masks: Whether boxes, where there are masks, are computed from the transformed masks. Otherwise they
            enclose the transformed corners, and so are too large after a rotation.

    Raises:
        ValueError: If a transform or an argument does not exist, or a value is out of range.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], boxes_from_masks: bool = False) -> None:
        built = build_transforms(transforms)
        if not built:
            raise ValueError(
                "AlbumentationsDetection needs transforms, such as [dict(type='HueSaturationValue', p=0.5)]."
            )
        boxes = library().BboxParams(
            format="pascal_voc", label_fields=["indices"], clip=True, filter_invalid_bboxes=True
        )
        self._is_geometric = not all(_only_pixels(transform) for transform in built)
        self._compose: Any = library().Compose(built, bbox_params=boxes if self._is_geometric else None)
        self.boxes_from_masks = boxes_from_masks

    def apply(self, sample: AnnotatedImage) -> None:
        """Applies the transforms.

        Raises:
            ValueError: If the result is not a uint8 RGB image.
        """
        reseed(self._compose)
        image = np.ascontiguousarray(sample.image)
        if not self._is_geometric:
            sample.image = _checked(self._compose(image=image)["image"])
            return
        boxes = np.zeros((0, 4)) if sample.boxes is None else sample.boxes
        ignored = np.zeros((0, 4)) if sample.ignored_boxes is None else sample.ignored_boxes
        given: dict[str, Any] = {
            "bboxes": np.concatenate([boxes, ignored]),
            "indices": np.arange(len(boxes) + len(ignored)),
        }
        if sample.segmentations:
            given["masks"] = sample.masks()
        result = self._compose(image=image, **given)
        self._update(sample, result, len(boxes))

    def _update(self, sample: AnnotatedImage, result: Mapping[str, Any], num_instances: int) -> None:
        """Takes over image, boxes and masks from a result; indices from `num_instances` on are ignored boxes."""
        old_height, old_width = sample.size
        sample.image = _checked(result["image"])
        height, width = sample.size
        affine = sample.affine
        sample.scale = (
            sample.scale[0] * abs(affine.scale_x) * width / old_width,
            sample.scale[1] * abs(affine.scale_y) * height / old_height,
        )
        sample.affine = AxisAlignedAffine()  # from here on, masks are bitmaps of the current image
        if sample.boxes is None:
            return
        indices = np.asarray(result["indices"], dtype=np.int64).reshape(-1)
        boxes = np.asarray(result["bboxes"], dtype=np.float64).reshape(-1, 4)
        sample.ignored_boxes = boxes[indices >= num_instances]
        boxes, indices = boxes[indices < num_instances], indices[indices < num_instances]
        if sample.segmentations:
            sample.segmentations = [np.asarray(mask, dtype=np.uint8) for mask in result["masks"]]
        sample.keep(indices)
        sample.boxes = boxes
        if self.boxes_from_masks and sample.segmentations:
            masks = np.stack([np.asarray(mask) for mask in sample.segmentations])
            visible = masks.any(axis=(1, 2))
            sample.keep(visible)
            sample.boxes = masks_to_boxes(masks[visible])


def _only_pixels(transform: Any) -> bool:
    """Returns whether a transform, or all of a composition's, change pixel values alone."""
    if isinstance(transform, library().BaseCompose):
        return all(_only_pixels(inner) for inner in transform.transforms)
    return isinstance(transform, library().ImageOnlyTransform)


def _checked(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{getattr(image, 'dtype', type(image).__name__)} of shape {tuple(getattr(image, 'shape', ()))}"
        raise ValueError(
            f"Albumentations transforms must return a uint8 image (height, width, 3), got {given}: leave out "
            "Normalize, ToFloat and ToTensorV2, because the task's data_preprocessor does their work."
        )
    return image
