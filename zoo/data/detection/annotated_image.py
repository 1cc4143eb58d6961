"""An image with its instances, as it passes through geometric transforms.

Boxes are updated by every transform. Masks remain polygons or run lengths in their original coordinates, and the
transforms are accumulated in one scale and shift. Only the instances that are left at the end become bitmaps: a polygon
is transformed exactly and rasterized once, a bitmap is resampled once (nearest pixel), where it is visible.
Albumentations would transform full bitmaps of all instances in every step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask

from ....deprecated_paths import renamed_names
from ....heads.structures import ImageInfo, Instances
from ..common.resizing import resize_image
from ..formats.coco import Segmentation

MIN_BOX_SIDE = 1.0
"""Boxes whose transformed width or height is less than this, in pixels, are dropped."""


@dataclasses.dataclass(frozen=True)
class AxisAlignedAffine:
    """Maps coordinates of the original masks to the current image: (x * scale_x + shift_x, y * scale_y + shift_y).

    Coordinates refer to the borders of pixels: 0 is the left border of the first pixel. A negative scale is a flip.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    def then(self, scale_x: float, scale_y: float, shift_x: float, shift_y: float) -> AxisAlignedAffine:
        """Returns the map that applies this one first and then the given scale and shift."""
        return AxisAlignedAffine(
            self.scale_x * scale_x,
            self.scale_y * scale_y,
            self.shift_x * scale_x + shift_x,
            self.shift_y * scale_y + shift_y,
        )


@dataclasses.dataclass
class AnnotatedImage:
    """An image and its instances; transforms change it in place.

    Attributes:
        image: (height, width, 3) uint8, RGB.
        original_size: (height, width) of the image file.
        boxes: (n, 4) float64, x1, y1, x2, y2 in pixels of `image`; None without annotations.
        labels: (n,) int64.
        segmentations: Masks of the n instances: polygons, run lengths, or bitmaps (height, width) uint8; None without
            masks.
        ignored_boxes: (m, 4) float64, boxes that are neither objects nor background.
        affine: Map from the coordinates of `segmentations` to those of `image`.
        flip: Whether the image was flipped horizontally.
        scale: (x, y): scale factors from before `affine` was reset.
        boxes_from_masks: Whether `pack` replaces the boxes by those that enclose the masks.
    """

    image: np.ndarray
    original_size: tuple[int, int]
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    segmentations: list[Segmentation | np.ndarray] | None = None
    ignored_boxes: np.ndarray | None = None
    affine: AxisAlignedAffine = AxisAlignedAffine()
    flip: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    boxes_from_masks: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the current image."""
        return self.image.shape[0], self.image.shape[1]

    def resize(self, height: int, width: int) -> None:
        """Resizes with OpenCV's bilinear interpolation, without antialiasing, as OpenMMLab does."""
        old_height, old_width = self.size
        self.image = resize_image(self.image, (height, width))
        self._transform(width / old_width, height / old_height, 0.0, 0.0)

    def hflip(self) -> None:
        """Flips horizontally."""
        self.image = np.ascontiguousarray(self.image[:, ::-1])
        self.flip = not self.flip
        self._transform(-1.0, 1.0, float(self.size[1]), 0.0)

    def crop(self, top: int, left: int, height: int, width: int) -> None:
        """Crops to a rectangle and drops the instances outside of it."""
        assert 0 <= top <= top + height <= self.size[0]
        assert 0 <= left <= left + width <= self.size[1]
        self.image = self.image[top : top + height, left : left + width]
        self._transform(1.0, 1.0, -float(left), -float(top))

    def keep(self, chosen: Any) -> None:
        """Keeps some of the instances: boxes, labels and masks.

        Args:
            chosen: (n,) bool array, or (k,) indices of instances.
        """
        assert self.boxes is not None
        assert self.labels is not None
        indices = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        self.boxes, self.labels = self.boxes[indices], self.labels[indices]
        if self.segmentations is not None:
            self.segmentations = [self.segmentations[index] for index in indices]

    def masks(self) -> np.ndarray:
        """Returns the masks as bitmaps: (n, height, width) uint8 of 0 and 1."""
        assert self.segmentations is not None
        height, width = self.size
        masks = np.zeros((len(self.segmentations), height, width), dtype=np.uint8)
        for mask, segmentation in zip(masks, self.segmentations, strict=True):
            if isinstance(segmentation, list):
                _rasterize_polygons(mask, segmentation, self.affine)
            elif segmentation is not None:
                _resample_bitmap(mask, segmentation, self.affine)
        return masks

    def info(self) -> ImageInfo:
        """Returns sizes, scale factors and flip, which heads need."""
        scale_x, scale_y = self.affine.scale_x * self.scale[0], self.affine.scale_y * self.scale[1]
        return ImageInfo(
            image_size=self.size,
            original_size=self.original_size,
            scale_factor=(abs(scale_x), abs(scale_y)),
            flip=self.flip,
        )

    def pixels(self) -> torch.Tensor:
        """Returns the image as a (3, height, width) uint8 tensor."""
        return torch.from_numpy(np.ascontiguousarray(self.image.transpose(2, 0, 1)))

    def pack(self) -> dict[str, Any]:
        """Returns the sample: `image`, `info` and `target`.

        Instances whose box is thinner than MIN_BOX_SIDE, or whose mask has no pixel left, are dropped.
        """
        target = None
        if self.boxes is not None:
            masks = None
            self.keep(_sides(self.boxes).min(axis=1) >= MIN_BOX_SIDE)
            if self.segmentations is not None:
                masks = self.masks()
                visible = masks.reshape(len(masks), -1).any(axis=1) if len(masks) else np.zeros(0, dtype=bool)
                if not visible.all():
                    self.keep(visible)
                    masks = masks[visible]
                if self.boxes_from_masks:
                    self.boxes = masks_to_boxes(masks)
            ignored = self.ignored_boxes
            target = Instances(
                boxes=torch.from_numpy(self.boxes.astype(np.float32)),
                labels=torch.from_numpy(np.asarray(self.labels, dtype=np.int64)),
                masks=None if masks is None else torch.from_numpy(masks),
                ignored_boxes=None if ignored is None else torch.from_numpy(ignored.astype(np.float32)),
            )
        return {"image": self.pixels(), "info": self.info(), "target": target}

    def _transform(self, scale_x: float, scale_y: float, shift_x: float, shift_y: float) -> None:
        self.affine = self.affine.then(scale_x, scale_y, shift_x, shift_y)
        scale, shift = np.array([scale_x, scale_y] * 2), np.array([shift_x, shift_y] * 2)
        limits = np.array([self.size[1], self.size[0]] * 2, dtype=np.float64)

        def transformed(boxes: np.ndarray) -> np.ndarray:
            boxes = boxes * scale + shift
            if scale_x < 0:
                boxes = boxes[:, [2, 1, 0, 3]]
            return np.clip(boxes, 0, limits)

        if self.boxes is not None:
            self.boxes = transformed(self.boxes)
            inside = (_sides(self.boxes) > 0).all(axis=1)
            if not inside.all():
                self.keep(inside)
        if self.ignored_boxes is not None:
            boxes = transformed(self.ignored_boxes)
            self.ignored_boxes = boxes[(_sides(boxes) > 0).all(axis=1)]


def decode_rle(rle: tuple[bytes, tuple[int, int]]) -> np.ndarray:
    """Decodes COCO's run lengths to (height, width) uint8 of 0 and 1."""
    counts, (height, width) = rle
    return np.asarray(coco_mask.decode({"size": [height, width], "counts": counts}))


def masks_to_boxes(masks: np.ndarray) -> np.ndarray:
    """Returns the boxes (n, 4), float64, that enclose masks (n, height, width) of 0 and 1, none of them empty."""
    corners = np.array([cv2.boundingRect(mask) for mask in masks], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Returns widths and heights (n, 2) of boxes (n, 4)."""
    return boxes[:, 2:] - boxes[:, :2]


def _rasterize_polygons(mask: np.ndarray, polygons: Sequence[np.ndarray], affine: AxisAlignedAffine) -> None:
    """Rasterizes the union of polygons as COCO does into a mask of zeros; parts outside of the mask are cut off."""
    scale = (affine.scale_x, affine.scale_y)
    shift = (affine.shift_x, affine.shift_y)
    polygons = [polygon * scale + shift for polygon in polygons]
    points = np.concatenate(polygons)
    # The canvas is the bounding box of the region, clipped at the right and the bottom of the mask. It is not clipped
    # at the left and the top, because COCO's rasterizer rounds negative coordinates differently.
    left, top = (int(value) for value in np.floor(points.min(axis=0)))
    right, bottom = (int(value) for value in np.ceil(points.max(axis=0)) + 1)
    right, bottom = min(right, mask.shape[1]), min(bottom, mask.shape[0])
    if right <= max(left, 0) or bottom <= max(top, 0):
        return
    # The rasterizer rounds to fifths of a pixel, and decimals are often exactly halfway: undo the rounding errors of
    # the shift before that.
    rings = [np.round(ring - (left, top), 9).ravel().tolist() for ring in polygons]
    region: Any = coco_mask.merge(coco_mask.frPyObjects(rings, bottom - top, right - left))  # pyright: ignore[reportArgumentType] (a list for a list)
    bitmap = coco_mask.decode(region)
    mask[max(top, 0) : bottom, max(left, 0) : right] = bitmap[max(-top, 0) :, max(-left, 0) :]


def _resample_bitmap(mask: np.ndarray, source: Any, affine: AxisAlignedAffine) -> None:
    """Resamples a bitmap or run lengths into a mask of zeros; each pixel takes the value at its center."""
    if isinstance(source, tuple):
        x, y, width, height = (int(side) for side in coco_mask.toBbox({"size": list(source[1]), "counts": source[0]}))
        bitmap = decode_rle(source)
    else:
        bitmap, (x, y, width, height) = source, cv2.boundingRect(source)
    if width <= 0 or height <= 0:
        return
    columns, columns_from = _nearest_source(mask.shape[1], affine.scale_x, affine.shift_x, x, x + width)
    rows, rows_from = _nearest_source(mask.shape[0], affine.scale_y, affine.shift_y, y, y + height)
    if len(rows) and len(columns):
        region = bitmap[rows_from][:, columns_from]
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = region


def _nearest_source(length: int, scale: float, shift: float, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels of an axis whose centers map into [begin, end) of the bitmap, and the pixels they map to."""
    source = np.floor((np.arange(length) + 0.5 - shift) / scale).astype(np.int64)
    pixels = np.flatnonzero((source >= begin) & (source < end))
    return pixels, source[pixels]


__getattr__ = renamed_names(
    __name__, {"Placement": "AxisAlignedAffine", "boxes_of": "masks_to_boxes", "decode": "decode_rle"}
)
