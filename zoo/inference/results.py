"""Results of a predictor: one typed object per image, which can be drawn and converted to JSON."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ...deprecated_paths import renamed_names
from ..evaluation.masks import encode_mask
from ..plots.canvas import Canvas
from ..plots.colors import Color, class_color
from ..plots.drawing import class_name, draw_detections, draw_label_map
from .inputs import Source

__getattr__ = renamed_names(
    __name__,
    {
        "Found": "Detection",
        "Guess": "ClassPrediction",
        "draw_labels": "draw_label_map",
        "draw_objects": "draw_detections",
        "name_of": "class_name",
    },
)


@dataclass(kw_only=True)
class Result(ABC):
    """The prediction for one image.

    Attributes:
        path: File name or URL of the image; None for an image in memory.
        index: Position of the image among the inputs, starting at 0. Skipped inputs are counted.
        size: (height, width) of the image in pixels.
        classes: Class names by label; empty if they are unknown.
        source: Where the image comes from.
        kept_image: The image itself, if it was kept in memory.
    """

    path: str | None = None
    index: int = 0
    size: tuple[int, int] = (0, 0)
    classes: tuple[str, ...] = field(default=(), repr=False)
    source: Source | None = field(default=None, repr=False, compare=False)
    kept_image: Image.Image | None = field(default=None, repr=False, compare=False)

    @property
    def image(self) -> Image.Image:
        """The RGB image: the one kept in memory, or read again from its source.

        Raises:
            ValueError: The result has no image, or the source cannot be read any more.
        """
        if self.kept_image is not None:
            return self.kept_image
        if self.source is None:
            raise ValueError("This result has no image: set `kept_image` or `source`.")
        return self.source.read()

    @property
    def kept(self) -> Image.Image | None:
        """Deprecated name of `kept_image`."""
        warnings.warn("Result.kept is now called kept_image.", DeprecationWarning, stacklevel=2)
        return self.kept_image

    def to_dict(self) -> dict[str, Any]:
        """Converts the result to plain Python types, ready for JSON."""
        height, width = self.size
        return {"path": self.path, "index": self.index, "width": width, "height": height, **self._prediction_dict()}

    @abstractmethod
    def draw(self) -> Image.Image:
        """Draws the prediction on a copy of the image."""

    @abstractmethod
    def _prediction_dict(self) -> dict[str, Any]: ...


class ClassPrediction(NamedTuple):
    """A class that was predicted for an image.

    Attributes:
        label: Class index, starting at 0.
        name: Class name.
        score: Probability of the class.
    """

    label: int
    name: str
    score: float


@dataclass(kw_only=True)
class ClassificationResult(Result):
    """The class scores of an image.

    Attributes:
        scores: (classes,) float32, the probability of each class. In multi-label classification they do not sum to 1.
        topk: Number of classes in `best`, `draw` and `to_dict`.
    """

    scores: torch.Tensor = field(repr=False)
    topk: int = 5

    @property
    def label(self) -> int:
        """Index of the class with the highest score."""
        return self.top(1)[0].label

    @property
    def name(self) -> str:
        """Name of the class with the highest score."""
        return self.top(1)[0].name

    @property
    def score(self) -> float:
        """The highest score."""
        return self.top(1)[0].score

    @property
    def best(self) -> list[ClassPrediction]:
        """The `topk` classes with the highest scores, in descending order."""
        return self.top(self.topk)

    def top(self, count: int) -> list[ClassPrediction]:
        """Returns the `count` classes with the highest scores, in descending order.

        Scores that are not finite count as 0, as in the result files of an evaluation.
        """
        scores = torch.nan_to_num(self.scores, 0.0, 0.0, 0.0)
        best = torch.topk(scores, min(count, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [ClassPrediction(label, class_name(label, self.classes), score) for label, score in pairs]

    def draw(self, topk: int | None = None) -> Image.Image:
        """Returns the image with a bar chart of the best classes below it.

        Args:
            topk: Number of classes; by default `self.topk`.
        """
        canvas = Canvas(self.image)
        canvas.add_bars([(prediction.name, prediction.score) for prediction in self.top(topk or self.topk)])
        return canvas.image

    def __str__(self) -> str:
        return ", ".join(f"{prediction.name} {100 * prediction.score:.1f} %" for prediction in self.best)

    def _prediction_dict(self) -> dict[str, Any]:
        return {"predictions": [{"label": label, "class": name, "score": score} for label, name, score in self.best]}


class Detection(NamedTuple):
    """One detected object.

    Attributes:
        label: Class index, starting at 0.
        name: Class name.
        score: Confidence, 0 to 1.
        box: x1, y1, x2, y2 in pixels of the image.
        mask: (height, width) bool; None if the model predicts no masks.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None


@dataclass(kw_only=True)
class DetectionResult(Result):
    """The objects in an image, in descending order of their scores. Iterating yields one `Detection` per object.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the image.
        labels: (n,) int64, class indices starting at 0.
        scores: (n,) float32, 0 to 1.
        masks: (n, height, width) bool at the size of the image; None if the model predicts no masks.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor
    masks: torch.Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        for index, (box, label, score) in enumerate(
            zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        ):
            mask = self.masks[index].cpu().numpy().astype(bool) if self.masks is not None else None
            yield Detection(label, class_name(label, self.classes), score, (box[0], box[1], box[2], box[3]), mask)

    @property
    def names(self) -> list[str]:
        """Class name of each object."""
        return [class_name(label, self.classes) for label in self.labels.tolist()]

    def above(self, score_threshold: float) -> DetectionResult:
        """Returns the objects with at least this score."""
        keep = self.scores >= score_threshold
        masks = self.masks[keep] if self.masks is not None else None
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], scores=self.scores[keep], masks=masks)

    def draw(self, score_threshold: float = 0.3, masks: bool = True, names: bool = True) -> Image.Image:
        """Draws boxes, masks, names and scores on the image, objects with higher scores on top.

        Args:
            score_threshold: Objects with a lower score are not drawn.
            masks: Whether to draw masks, if there are any.
            names: Whether to write class names and scores.
        """
        canvas = Canvas(self.image)
        detections = list(self.above(score_threshold))
        draw_detections(
            canvas,
            [detection.box for detection in detections],
            [detection.label for detection in detections],
            [detection.mask for detection in detections] if masks else None,
            [f"{detection.name} {detection.score:.2f}" for detection in detections] if names else None,
        )
        return canvas.image

    def __str__(self) -> str:
        return ", ".join(f"{detection.name} {detection.score:.2f}" for detection in self) or "no objects"

    def _prediction_dict(self) -> dict[str, Any]:
        entries = []
        for label, name, score, box, mask in self:
            entry = {"label": label, "class": name, "score": score, "box": list(box)}
            if mask is not None:
                entry["mask"] = encode_mask(mask)
            entries.append(entry)
        return {"detections": entries}


@dataclass(kw_only=True)
class SegmentationResult(Result):
    """The class of every pixel of an image.

    Attributes:
        label_map: (height, width) int64 at the size of the image, class indices starting at 0.
        palette: Red, green and blue, 0 to 255, by label; None for the zoo's own colors.
    """

    label_map: torch.Tensor = field(repr=False)
    palette: tuple[Color, ...] | None = field(default=None, repr=False)

    def shares(self) -> list[tuple[int, float]]:
        """Lists the labels in the image with their share of the area, 0 to 1, the largest first."""
        labels, counts = torch.unique(self.label_map, return_counts=True)
        shares = (counts / max(1, self.label_map.numel())).tolist()
        return sorted(zip(labels.tolist(), shares, strict=True), key=lambda pair: -pair[1])

    def mask(self, label: int) -> np.ndarray:
        """Returns the mask of a class, (height, width) bool."""
        return (self.label_map == label).cpu().numpy()

    def color(self, label: int) -> Color:
        """Returns the color of a class."""
        if self.palette is not None and label < len(self.palette):
            return self.palette[label]
        return class_color(label)

    def colour(self, label: int) -> Color:
        """Deprecated name of `color`."""
        warnings.warn("SegmentationResult.colour is now called color.", DeprecationWarning, stacklevel=2)
        return self.color(label)

    def to_image(self) -> Image.Image:
        """Converts the label map to a palette image, whose pixel values are labels.

        Raises:
            ValueError: The label map has labels above 255.
        """
        labels = self.label_map.cpu().numpy()
        if labels.size and labels.max() > 255:
            raise ValueError(f"A palette image can store labels up to 255, this label map has {labels.max()}.")
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette([channel for label in range(256) for channel in self.color(label)])
        return image

    def draw(self, strength: float = 0.6, legend: bool = True) -> Image.Image:
        """Blends the color of its class over every pixel.

        Args:
            strength: Opacity of the colors, 0 to 1.
            legend: Whether to list the classes below the image, the largest first, with their share of the area.
        """
        canvas = Canvas(self.image)
        draw_label_map(canvas, self.label_map.cpu().numpy(), self.classes, self.color, strength, legend)
        return canvas.image

    def __str__(self) -> str:
        return ", ".join(f"{class_name(label, self.classes)} {100 * share:.1f} %" for label, share in self.shares())

    def _prediction_dict(self) -> dict[str, Any]:
        regions = [
            {
                "label": label,
                "class": class_name(label, self.classes),
                "share": share,
                "mask": encode_mask(self.mask(label)),
            }
            for label, share in self.shares()
        ]
        return {"regions": regions}
