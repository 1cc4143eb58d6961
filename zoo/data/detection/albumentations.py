"""Any of albumentations' transforms for detection, guarded against what it does wrong or in silence.

Beyond what `albumentations_pipeline` guards against: it drops boxes and keeps their masks (so the instances' numbers go
along as a label, and say whose mask it is), fails where there are boxes outside the image (they are clipped) and where
there are no masks (then it is given none).
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
    """Runs albumentations' transforms, given by name, on an image with its instances.

    Transforms of pixels alone are cheap. As soon as one moves them, albumentations carries the full bitmaps of all
    instances: `DetectionTrain` and `LargeScaleJitter` are faster at what they do. As one step of several, see
    `DetectionSteps`.

    Args:
        transforms: dicts with `type`, a class of albumentations, and its arguments; those of a composition
            (dict(type="OneOf", transforms=[...])) likewise.
        boxes_from_masks: where there are masks, boxes become those of the moved masks; else those around the moved
            corners, which are too large after a rotation.

    Raises:
        ValueError: there is no such transform or argument, or a value is out of range.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], boxes_from_masks: bool = False) -> None:
        built = build_transforms(transforms)
        if not built:
            raise ValueError(
                "AlbumentationsDetection needs transforms, such as [dict(type='HueSaturationValue', p=0.5)]."
            )
        boxes = library().BboxParams(
            format="pascal_voc", label_fields=["numbers"], clip=True, filter_invalid_bboxes=True
        )
        self._moves = not all(_only_pixels(transform) for transform in built)
        self._compose: Any = library().Compose(built, bbox_params=boxes if self._moves else None)
        self.boxes_from_masks = boxes_from_masks

    def apply(self, sample: AnnotatedImage) -> None:
        """Runs the transforms.

        Raises:
            ValueError: what comes out is no uint8 RGB image.
        """
        reseed(self._compose)
        image = np.ascontiguousarray(sample.image)
        if not self._moves:
            sample.image = _checked(self._compose(image=image)["image"])
            return
        boxes = np.zeros((0, 4)) if sample.boxes is None else sample.boxes
        ignored = np.zeros((0, 4)) if sample.ignored_boxes is None else sample.ignored_boxes
        given: dict[str, Any] = {
            "bboxes": np.concatenate([boxes, ignored]),
            "numbers": np.arange(len(boxes) + len(ignored)),
        }
        if sample.segmentations:
            given["masks"] = sample.masks()
        result = self._compose(image=image, **given)
        self._take(sample, result, len(boxes))

    def _take(self, sample: AnnotatedImage, result: Mapping[str, Any], objects: int) -> None:
        old_height, old_width = sample.size
        sample.image = _checked(result["image"])
        height, width = sample.size
        affine = sample.affine
        sample.scale = (
            sample.scale[0] * abs(affine.scale_x) * width / old_width,
            sample.scale[1] * abs(affine.scale_y) * height / old_height,
        )
        sample.affine = AxisAlignedAffine()  # the masks are bitmaps of the present image from here on
        if sample.boxes is None:
            return
        numbers = np.asarray(result["numbers"], dtype=np.int64).reshape(-1)
        boxes = np.asarray(result["bboxes"], dtype=np.float64).reshape(-1, 4)
        sample.ignored_boxes = boxes[numbers >= objects]
        boxes, numbers = boxes[numbers < objects], numbers[numbers < objects]
        if sample.segmentations:
            sample.segmentations = [np.asarray(mask, dtype=np.uint8) for mask in result["masks"]]
        sample.keep(numbers)
        sample.boxes = boxes
        if self.boxes_from_masks and sample.segmentations:
            masks = np.stack([np.asarray(shape) for shape in sample.segmentations])
            visible = masks.any(axis=(1, 2))
            sample.keep(visible)
            sample.boxes = masks_to_boxes(masks[visible])


def _only_pixels(transform: Any) -> bool:
    """Whether a transform, or all of a composition's, leave every pixel at its place."""
    if isinstance(transform, library().BaseCompose):
        return all(_only_pixels(inner) for inner in transform.transforms)
    return isinstance(transform, library().ImageOnlyTransform)


def _checked(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{getattr(image, 'dtype', type(image).__name__)} of shape {tuple(getattr(image, 'shape', ()))}"
        raise ValueError(
            f"albumentations' transforms must give an image of uint8 (height, width, 3), not {given}: the model "
            "normalises and makes the tensor (leave out Normalize, ToFloat, ToTensorV2)."
        )
    return image
