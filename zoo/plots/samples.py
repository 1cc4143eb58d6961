"""Images of a data set's samples, as a model receives them, and as they are in the files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..analysis.samples import get_sample
from ..data.segmentation.label_maps import voc_palette
from ..inference.arrays import image_from_tensor
from .canvas import Canvas
from .colors import Color, class_color
from .drawing import class_name, draw_detections, draw_label_map

_GAP = 8  # pixels between images
_BACKGROUND = (255, 255, 255)
_IGNORED_BOX = (128, 128, 128)


def draw_samples(
    dataset: Any, indices: Sequence[int], columns: int = 4, side: int = 400, original: bool = False, epoch: int = 0
) -> bytes:
    """Renders samples in a grid.

    Args:
        dataset: A data set of the zoo, for classification, detection or segmentation.
        indices: Indices of the samples.
        columns: Number of samples per row.
        side: Longest side of an image in pixels.
        original: Also show each sample before its transform, to the left of the transformed one.
        epoch: Epoch that seeds the augmentation.

    Returns:
        The PNG.

    Raises:
        ValueError: `indices` is empty, or the samples are of an unknown kind.
    """
    if not indices:
        raise ValueError(f"{dataset} has no samples to show.")
    groups = []
    for index in indices:
        group = [draw_original(dataset, index, side)] if original else []
        group.append(draw_sample(dataset, get_sample(dataset, index, epoch), side))
        groups.append(group)
    return _grid(groups, columns)


def draw_sample(dataset: Any, sample: Mapping[str, Any], side: int = 400) -> Image.Image:
    """Renders a sample as a model receives it.

    Args:
        dataset: The data set, with `classes` and optionally its own colors.
        sample: A sample of the data set. Of several views, the first is rendered.
        side: Longest side of the image in pixels.

    Raises:
        ValueError: The sample is of an unknown kind.
    """
    view = sample["views"][0] if sample.get("views") else sample
    image = image_from_tensor(view["image"], "the sample's image")
    if sample.get("label_map") is not None:
        label_map = sample["label_map"].numpy()
        if label_map.shape != (image.height, image.width):  # in evaluation it has the size of the file
            image = image.resize((label_map.shape[1], label_map.shape[0]))
        return _annotate(dataset, image, sample["path"], side, labels=label_map)
    if "label" in sample:
        return _annotate(dataset, image, sample["path"], side, label=sample["label"])
    if "target" in sample or "views" in sample or "label_map" in sample:
        return _annotate(dataset, image, sample["path"], side, target=sample.get("target"))
    raise ValueError(f"A sample needs a label, a target or a label map, got the keys {', '.join(sample)}.")


def draw_original(dataset: Any, index: int, side: int = 400) -> Image.Image:
    """Renders a sample as it is in the files, before any transform.

    Args:
        dataset: An `ImageDataset`.
        index: Index of the sample.
        side: Longest side of the image in pixels.

    Raises:
        BrokenImageError: A file cannot be read.
        ValueError: The data set is of an unknown kind.
    """
    path = dataset.path(index)
    loaded = dataset.load(index)
    if dataset.kind == "detection":
        return _annotate(dataset, Image.fromarray(loaded.image), path, side, target=loaded.pack()["target"])
    image, annotation = loaded
    if dataset.kind == "classification":
        return _annotate(dataset, image, path, side, label=annotation)
    if dataset.kind == "segmentation":
        return _annotate(dataset, Image.fromarray(image), path, side, labels=annotation)
    raise ValueError(f"Cannot render samples of a data set of kind {dataset.kind!r}.")


def _annotate(
    dataset: Any,
    image: Image.Image,
    path: str,
    side: int,
    label: int | None = None,
    target: Any = None,
    labels: np.ndarray | None = None,
) -> Image.Image:
    """Draws the annotations of an image with the file's name below, and resizes it to the longest side."""
    classes = tuple(dataset.classes)
    canvas = Canvas(image, downscale=max(image.size) / side)
    if labels is not None:
        draw_label_map(canvas, labels, classes, _palette_color(dataset))
    if target is not None:
        object_labels = target.labels.tolist()
        masks = None if target.masks is None else list(target.masks.numpy().astype(bool))
        texts = [class_name(one, classes) for one in object_labels]
        for box in target.ignored_boxes.tolist() if target.ignored_boxes is not None else ():
            canvas.draw_dashed_box(box, _IGNORED_BOX)
        # Smallest objects first, because draw_detections puts earlier objects on top.
        areas = (target.boxes[:, 2:] - target.boxes[:, :2]).prod(1)
        order = torch.argsort(areas).tolist()
        draw_detections(
            canvas,
            [target.boxes[index].tolist() for index in order],
            [object_labels[index] for index in order],
            None if masks is None else [masks[index] for index in order],
            [texts[index] for index in order],
        )
    text = Path(path).name if label is None else f"{class_name(label, classes)}  ({Path(path).name})"
    canvas.add_caption(text)
    factor = side / max(canvas.image.size)
    size = (max(1, round(canvas.image.width * factor)), max(1, round(canvas.image.height * factor)))
    return canvas.image if factor >= 1 else canvas.image.resize(size, Image.Resampling.LANCZOS)


def _palette_color(dataset: Any) -> Callable[[int], Color]:
    """Returns a function from labels to the data set's own colors, or to the default ones."""
    palette = (getattr(dataset, "metainfo", None) or {}).get("palette") or ()
    if palette == voc_palette(len(palette)) and dataset.classes[0] != "background":
        # The default of sets without colors starts with black, which would hide any class but a background.
        palette = ()

    def color(label: int) -> Color:
        if label >= len(palette):
            return class_color(label)
        red, green, blue = palette[label]
        return int(red), int(green), int(blue)

    return color


def _grid(groups: Sequence[Sequence[Image.Image]], columns: int) -> bytes:
    """Arranges groups of images in a grid and renders it as PNG; each row is as high as its highest image."""
    columns = min(columns, len(groups))
    rows = [groups[start : start + columns] for start in range(0, len(groups), columns)]
    width = max(sum(image.width + _GAP for group in row for image in group) for row in rows) + _GAP
    heights = [max(image.height for group in row for image in group) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP * (len(rows) + 1)), _BACKGROUND)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for group in row:
            for image in group:
                sheet.paste(image, (left, top))
                left += image.width + _GAP
        top += height + _GAP
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
