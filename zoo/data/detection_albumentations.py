"""Any of albumentations' transforms for detection, guarded against what it does wrong or in silence.

- Its random stream is seeded anew for every sample: unseeded, all workers draw the same, epoch after epoch.
- It drops boxes and keeps their masks: the instances' numbers go along as a label, and say whose mask it is.
- It fails without masks, and on boxes outside the image: those are clipped, and without masks none are given.
- It only warns of arguments that it does not know: here they are errors.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...names import unknown_name
from ..registry import ALBUMENTATIONS, TRANSFORMS
from .annotated_image import AnnotatedImage, Placement, boxes_of
from .detection_transforms import DetectionTransform


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
        built = [_build(transform) for transform in transforms]
        if not built:
            raise ValueError(
                "AlbumentationsDetection needs transforms, such as [dict(type='HueSaturationValue', p=0.5)]."
            )
        import albumentations

        boxes = albumentations.BboxParams(
            format="pascal_voc", label_fields=["numbers"], clip=True, filter_invalid_bboxes=True
        )
        self._moves = not all(_only_pixels(transform) for transform in built)
        self._compose = albumentations.Compose(built, bbox_params=boxes if self._moves else None)
        self.boxes_from_masks = boxes_from_masks

    def apply(self, sample: AnnotatedImage) -> None:
        """Runs the transforms.

        Raises:
            ValueError: what comes out is no uint8 RGB image.
        """
        self._compose.set_random_seed(random.getrandbits(32))
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
        if sample.shapes:
            given["masks"] = sample.masks()
        result = self._compose(image=image, **given)
        self._take(sample, result, len(boxes))

    def _take(self, sample: AnnotatedImage, result: Mapping[str, Any], objects: int) -> None:
        old_height, old_width = sample.size
        sample.image = _checked(result["image"])
        height, width = sample.size
        placement = sample.placement
        sample.scale = (
            sample.scale[0] * abs(placement.scale_x) * width / old_width,
            sample.scale[1] * abs(placement.scale_y) * height / old_height,
        )
        sample.placement = Placement()  # the masks are bitmaps of the present image from here on
        if sample.boxes is None:
            return
        numbers = np.asarray(result["numbers"], dtype=np.int64).reshape(-1)
        boxes = np.asarray(result["bboxes"], dtype=np.float64).reshape(-1, 4)
        sample.ignored_boxes = boxes[numbers >= objects]
        boxes, numbers = boxes[numbers < objects], numbers[numbers < objects]
        if sample.shapes:
            sample.shapes = [np.asarray(mask, dtype=np.uint8) for mask in result["masks"]]
        sample.keep(numbers)
        sample.boxes = boxes
        if self.boxes_from_masks and sample.shapes:
            masks = np.stack([np.asarray(shape) for shape in sample.shapes])
            visible = masks.any(axis=(1, 2))
            sample.keep(visible)
            sample.boxes = boxes_of(masks[visible])


def _build(config: Mapping[str, Any]) -> Any:
    """Builds a transform of albumentations, and those inside of it."""
    if not isinstance(config, Mapping) or "type" not in config:
        raise ValueError(f"A transform of albumentations is dict(type='HueSaturationValue', ...), not {config!r}.")
    arguments = {key: value for key, value in config.items() if key != "type"}
    kind: Any = ALBUMENTATIONS.get(config["type"])
    allowed = inspect.signature(kind).parameters
    for name in arguments:
        if name not in allowed:
            raise ValueError(unknown_name(f"argument of {config['type']}", name, allowed))
    if "transforms" in arguments:
        arguments["transforms"] = [_build(inner) for inner in arguments["transforms"]]
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"albumentations' {config['type']} does not take {arguments}: {error}") from error


def _only_pixels(transform: Any) -> bool:
    """Whether a transform, or all of a composition's, leave every pixel at its place."""
    import albumentations

    if isinstance(transform, albumentations.BaseCompose):
        return all(_only_pixels(inner) for inner in transform.transforms)
    return isinstance(transform, albumentations.ImageOnlyTransform)


def _checked(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{getattr(image, 'dtype', type(image).__name__)} of shape {tuple(getattr(image, 'shape', ()))}"
        raise ValueError(
            f"albumentations' transforms must give an image of uint8 (height, width, 3), not {given}: the model "
            "normalises and makes the tensor (leave out Normalize, ToFloat, ToTensorV2)."
        )
    return image
