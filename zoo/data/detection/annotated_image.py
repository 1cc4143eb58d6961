"""An image with its instances on the way through geometric transforms.

Boxes follow each step. Masks do not: they stay polygons or run lengths in the coordinates they came in, and where the
steps have put the image is kept beside them as one scale and shift. Only what is left at the end becomes bitmaps: a
polygon is moved exactly and rasterised once, a bitmap is resampled once (nearest pixel) inside of what is visible.
Albumentations would carry full bitmaps of all instances through every step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask

from ....heads.structures import ImageInfo, Instances
from ..common.resizing import resize_image
from ..formats.coco import Segmentation

MIN_BOX_SIDE = 1.0
"""Boxes that transforms have left thinner than this, in pixels, are dropped."""


@dataclasses.dataclass(frozen=True)
class AxisAlignedAffine:
    """Where a point of the masks' own coordinates lies in the present image: x * scale_x + shift_x, and so for y.

    Coordinates are those of pixels' borders: 0 is the left border of the first pixel. A negative scale is a mirror.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    def then(self, scale_x: float, scale_y: float, shift_x: float, shift_y: float) -> AxisAlignedAffine:
        """Adds a step after all earlier ones."""
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
        original_size: (height, width) of the file's image.
        boxes: (n, 4) float64, x1, y1, x2, y2 in pixels of `image`; None where annotations were not asked for.
        labels: (n,) int64.
        segmentations: the instances' masks, n of them, or bitmaps (height, width) uint8; None where there are none.
        ignored_boxes: (m, 4) float64.
        affine: from the segmentations' coordinates to those of `image`.
        flip: whether it was mirrored left and right.
        scale: (x, y): factors of the size from before `affine` began anew.
        boxes_from_masks: at the end boxes become those of the masks.
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
        """(height, width) of the present image."""
        return self.image.shape[0], self.image.shape[1]

    def resize(self, height: int, width: int) -> None:
        """Resizes by OpenCV's bilinear interpolation, without antialiasing, as OpenMMLab does."""
        old_height, old_width = self.size
        self.image = resize_image(self.image, (height, width))
        self._move(width / old_width, height / old_height, 0.0, 0.0)

    def hflip(self) -> None:
        """Mirrors left and right."""
        self.image = np.ascontiguousarray(self.image[:, ::-1])
        self.flip = not self.flip
        self._move(-1.0, 1.0, float(self.size[1]), 0.0)

    def crop(self, top: int, left: int, height: int, width: int) -> None:
        """Cuts a rectangle out; instances that have nothing in it go."""
        assert 0 <= top <= top + height <= self.size[0]
        assert 0 <= left <= left + width <= self.size[1]
        self.image = self.image[top : top + height, left : left + width]
        self._move(1.0, 1.0, -float(left), -float(top))

    def keep(self, chosen: Any) -> None:
        """Keeps some of the instances: boxes, labels and masks together.

        Args:
            chosen: (n,) bool array, or (k,) numbers of instances.
        """
        assert self.boxes is not None
        assert self.labels is not None
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        self.boxes, self.labels = self.boxes[places], self.labels[places]
        if self.segmentations is not None:
            self.segmentations = [self.segmentations[place] for place in places]

    def masks(self) -> np.ndarray:
        """Makes the bitmaps: (n, height, width) uint8 of 0 and 1."""
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
        """The facts that a head needs to know."""
        scale_x, scale_y = self.affine.scale_x * self.scale[0], self.affine.scale_y * self.scale[1]
        return ImageInfo(
            image_size=self.size,
            original_size=self.original_size,
            scale_factor=(abs(scale_x), abs(scale_y)),
            flip=self.flip,
        )

    def pixels(self) -> torch.Tensor:
        """The image as (3, height, width) uint8."""
        return torch.from_numpy(np.ascontiguousarray(self.image.transpose(2, 0, 1)))

    def pack(self) -> dict[str, Any]:
        """Makes the sample: `image`, `info`, `target`.

        Instances whose box is thinner than MIN_BOX_SIDE by now, or whose mask has no pixel left, are left out.
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

    def _move(self, scale_x: float, scale_y: float, shift_x: float, shift_y: float) -> None:
        self.affine = self.affine.then(scale_x, scale_y, shift_x, shift_y)
        scale, shift = np.array([scale_x, scale_y] * 2), np.array([shift_x, shift_y] * 2)
        limits = np.array([self.size[1], self.size[0]] * 2, dtype=np.float64)

        def moved(boxes: np.ndarray) -> np.ndarray:
            boxes = boxes * scale + shift
            if scale_x < 0:
                boxes = boxes[:, [2, 1, 0, 3]]
            return np.clip(boxes, 0, limits)

        if self.boxes is not None:
            self.boxes = moved(self.boxes)
            inside = (_sides(self.boxes) > 0).all(axis=1)
            if not inside.all():
                self.keep(inside)
        if self.ignored_boxes is not None:
            boxes = moved(self.ignored_boxes)
            self.ignored_boxes = boxes[(_sides(boxes) > 0).all(axis=1)]


def decode_rle(shape: tuple[bytes, tuple[int, int]]) -> np.ndarray:
    """Decodes COCO's run lengths to (height, width) uint8 of 0 and 1."""
    counts, (height, width) = shape
    return np.asarray(coco_mask.decode({"size": [height, width], "counts": counts}))


def masks_to_boxes(masks: np.ndarray) -> np.ndarray:
    """Finds the boxes (n, 4), float64, of masks (n, height, width) of 0 and 1, each with a pixel at least."""
    corners = np.array([cv2.boundingRect(mask) for mask in masks], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Widths and heights (n, 2) of boxes (n, 4)."""
    return boxes[:, 2:] - boxes[:, :2]


def _rasterize_polygons(mask: np.ndarray, polygons: Sequence[np.ndarray], affine: AxisAlignedAffine) -> None:
    """Rasterises polygons as COCO does, together one region, into a mask of zeros, whatever lies outside of it."""
    scale = (affine.scale_x, affine.scale_y)
    shift = (affine.shift_x, affine.shift_y)
    moved = [polygon * scale + shift for polygon in polygons]
    points = np.concatenate(moved)
    # The canvas is the region's own box, as far as it reaches to the mask's right and bottom. It begins where the
    # region does, even outside of the mask: COCO's rasteriser rounds negative coordinates in another way.
    left, top = (int(value) for value in np.floor(points.min(axis=0)))
    right, bottom = (int(value) for value in np.ceil(points.max(axis=0)) + 1)
    right, bottom = min(right, mask.shape[1]), min(bottom, mask.shape[0])
    if right <= max(left, 0) or bottom <= max(top, 0):
        return
    # It rounds to fifths of a pixel, where decimals often lie halfway: shifts must not leave them a little off.
    rings = [np.round(ring - (left, top), 9).ravel().tolist() for ring in moved]
    region: Any = coco_mask.merge(coco_mask.frPyObjects(rings, bottom - top, right - left))  # pyright: ignore[reportArgumentType] (a list for a list)
    painted = coco_mask.decode(region)
    mask[max(top, 0) : bottom, max(left, 0) : right] = painted[max(-top, 0) :, max(-left, 0) :]


def _resample_bitmap(mask: np.ndarray, shape: Any, affine: AxisAlignedAffine) -> None:
    """Resamples a bitmap into a mask of zeros: each pixel is that of the bitmap in which its centre lies."""
    if isinstance(shape, tuple):
        x, y, width, height = (int(side) for side in coco_mask.toBbox({"size": list(shape[1]), "counts": shape[0]}))
        bitmap = decode_rle(shape)
    else:
        bitmap, (x, y, width, height) = shape, cv2.boundingRect(shape)
    if width <= 0 or height <= 0:
        return
    columns, columns_from = _nearest_source(mask.shape[1], affine.scale_x, affine.shift_x, x, x + width)
    rows, rows_from = _nearest_source(mask.shape[0], affine.scale_y, affine.shift_y, y, y + height)
    if len(rows) and len(columns):
        region = bitmap[rows_from][:, columns_from]
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = region


def _nearest_source(length: int, scale: float, shift: float, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pixels of an axis whose centres come from [begin, end) of the bitmap, and where they come from."""
    source = np.floor((np.arange(length) + 0.5 - shift) / scale).astype(np.int64)
    places = np.flatnonzero((source >= begin) & (source < end))
    return places, source[places]
