"""Pictures of a data set's samples: what a model is given to learn from, and what lies in the files."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.common.decoding import decode_rgb
from ..data.common.samplers import SampleKey
from ..data.segmentation.label_maps import voc_palette
from ..inference.arrays import image_from_tensor
from .canvas import Canvas
from .colors import Color, class_color
from .drawing import class_name, draw_detections, draw_label_map

_GAP = 8  # pixels between pictures
_GROUND = (255, 255, 255)
_IGNORED_BOX = (128, 128, 128)


def choose_samples(length: int, count: int, seed: int = 0) -> list[int]:
    """Chooses samples at random, each at most once.

    Args:
        length: of the data set.
        count: how many; all where there are fewer.
        seed: of the choice.
    """
    return random.Random(seed).sample(range(length), min(count, length))


def draw_samples(
    dataset: Any, indices: Sequence[int], columns: int = 4, side: int = 400, original: bool = False, epoch: int = 0
) -> bytes:
    """Draws samples in a grid.

    Args:
        dataset: of the zoo: classification, detection or segmentation.
        indices: of the samples.
        columns: pictures in a row.
        side: longest side of a picture in pixels.
        original: draw each sample's file, too, before its transform, to the left of what became of it.
        epoch: of the augmentation.

    Returns:
        The PNG's bytes.

    Raises:
        ValueError: there are no samples, or the data set's samples are of no kind that is known here.
    """
    if not indices:
        raise ValueError(f"{dataset} has no samples to draw.")
    pictures = []
    for index in indices:
        shown = [draw_original(dataset, index, side)] if original else []
        shown.append(draw_sample(dataset, get_sample(dataset, index, epoch), side))
        pictures.append(shown)
    return _grid(pictures, columns)


def get_sample(dataset: Any, index: int, epoch: int = 0) -> dict[str, Any]:
    """Gives a sample as a data loader does; a detector's in evaluation, too, with its objects.

    Args:
        dataset: of the zoo.
        index: of the sample.
        epoch: of the augmentation.
    """
    sample = dataset[SampleKey(epoch, index)]
    if "target" in sample and sample["target"] is None and "views" not in sample:
        # An evaluation asks for no objects, because they would not be used.
        sample = {**sample, "target": dataset.transform(dataset.load(index)).get("target")}
    return sample


def draw_sample(dataset: Any, sample: Mapping[str, Any], side: int = 400) -> Image.Image:
    """Draws a sample as a model is given it.

    Args:
        dataset: with `classes`, and colours where it has its own.
        sample: of the data set. Of several views, the first is drawn.
        side: longest side of the picture in pixels.

    Raises:
        ValueError: the sample is of no kind that is known here.
    """
    view = sample["views"][0] if sample.get("views") else sample
    image = image_from_tensor(view["image"], "the sample's image")
    if sample.get("label_map") is not None:
        label_map = sample["label_map"].numpy()
        if label_map.shape != (image.height, image.width):  # an evaluation's is as large as the file's
            image = image.resize((label_map.shape[1], label_map.shape[0]))
        return _finish(dataset, image, sample["path"], side, labels=label_map)
    if "label" in sample:
        return _finish(dataset, image, sample["path"], side, label=sample["label"])
    if "target" in sample or "views" in sample or "label_map" in sample:
        return _finish(dataset, image, sample["path"], side, target=sample.get("target"))
    raise ValueError(f"A sample with {', '.join(sample)} is of no kind that can be drawn.")


def draw_original(dataset: Any, index: int, side: int = 400) -> Image.Image:
    """Draws what lies in a sample's files, before any transform.

    Args:
        dataset: of the zoo.
        index: of the sample.
        side: longest side of the picture in pixels.

    Raises:
        ValueError: a file cannot be read, or the data set does not tell.
    """
    if hasattr(dataset, "source"):
        file, label = dataset.source.open(index)
        with file:
            image = decode_rgb(file, dataset.source.path(index))
        return _finish(dataset, image, dataset.source.path(index), side, label=label)
    if hasattr(dataset, "read_labels"):
        path = dataset.pairs[index].image
        with open(path, "rb") as file:
            image = decode_rgb(file, path)
        return _finish(dataset, image, path, side, labels=dataset.read_labels(index))
    if hasattr(dataset, "load"):
        annotated = dataset.load(index)
        image = Image.fromarray(annotated.image)
        return _finish(dataset, image, dataset.path(index), side, target=annotated.pack()["target"])
    raise ValueError(f"{dataset} does not tell what its files hold.")


def _finish(
    dataset: Any,
    image: Image.Image,
    path: str,
    side: int,
    label: int | None = None,
    target: Any = None,
    labels: np.ndarray | None = None,
) -> Image.Image:
    """Draws what is known of an image, and the file's name below; makes it as large as wanted."""
    classes = tuple(dataset.classes)
    canvas = Canvas(image, downscale=max(image.size) / side)
    if labels is not None:
        draw_label_map(canvas, labels, classes, _colours(dataset))
    if target is not None:
        objects = target.labels.tolist()
        masks = None if target.masks is None else list(target.masks.numpy().astype(bool))
        texts = [class_name(one, classes) for one in objects]
        for box in target.ignored_boxes.tolist() if target.ignored_boxes is not None else ():
            canvas.draw_dashed_box(box, _IGNORED_BOX)
        # Small objects last, and so on top.
        areas = (target.boxes[:, 2:] - target.boxes[:, :2]).prod(1)
        order = torch.argsort(areas).tolist()
        draw_detections(
            canvas,
            [target.boxes[place].tolist() for place in order],
            [objects[place] for place in order],
            None if masks is None else [masks[place] for place in order],
            [texts[place] for place in order],
        )
    text = Path(path).name if label is None else f"{class_name(label, classes)}  ({Path(path).name})"
    canvas.add_caption(text)
    factor = side / max(canvas.image.size)
    size = (max(1, round(canvas.image.width * factor)), max(1, round(canvas.image.height * factor)))
    return canvas.image if factor >= 1 else canvas.image.resize(size, Image.Resampling.LANCZOS)


def _colours(dataset: Any) -> Callable[[int], Color]:
    """The data set's own colours, by label."""
    palette = (getattr(dataset, "metainfo", None) or {}).get("palette") or ()
    if palette == voc_palette(len(palette)) and dataset.classes[0] != "background":
        palette = ()  # what a set without colours has: it begins with black, which hides all but a background

    def color(label: int) -> Color:
        if label >= len(palette):
            return class_color(label)
        red, green, blue = palette[label]
        return int(red), int(green), int(blue)

    return color


def _grid(pictures: Sequence[Sequence[Image.Image]], columns: int) -> bytes:
    """Puts groups of pictures side by side and in rows, each row as high as its highest picture."""
    columns = min(columns, len(pictures))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(sum(image.width + _GAP for group in row for image in group) for row in rows) + _GAP
    heights = [max(image.height for group in row for image in group) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP * (len(rows) + 1)), _GROUND)
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
