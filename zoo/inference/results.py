"""What a predictor returns: one typed result an image, which draws itself and turns into JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..evaluation.masks import encode_mask
from ..plots.drawing import Canvas, Colour, class_colour
from .inputs import Source

_FEW = 12  # objects in an image whose texts have room


def name_of(label: int, classes: Sequence[str]) -> str:
    """A class's name; its number where there are no names."""
    return classes[label] if 0 <= label < len(classes) else str(label)


@dataclass(kw_only=True)
class Result(ABC):
    """What was predicted for one image.

    Attributes:
        path: the file or address of the image; None for one that was given in memory.
        index: position of the image among those given, from 0; those that were skipped count.
        size: (height, width) of the image in pixels.
        classes: names by label; empty where they are not known.
        source: where the image comes from.
        kept: the image itself, where it is kept.
    """

    path: str | None = None
    index: int = 0
    size: tuple[int, int] = (0, 0)
    classes: tuple[str, ...] = field(default=(), repr=False)
    source: Source | None = field(default=None, repr=False, compare=False)
    kept: Image.Image | None = field(default=None, repr=False, compare=False)

    @property
    def image(self) -> Image.Image:
        """The RGB image: kept in memory, or read again from its file.

        Raises:
            ValueError: the result has none, or the file cannot be read any more.
        """
        if self.kept is not None:
            return self.kept
        if self.source is None:
            raise ValueError("This result does not know its image: set `kept`.")
        return self.source.read()

    def to_dict(self) -> dict[str, Any]:
        """Gives the result in plain types, ready for JSON."""
        height, width = self.size
        return {"path": self.path, "index": self.index, "width": width, "height": height, **self._plain()}

    @abstractmethod
    def draw(self) -> Image.Image:
        """Draws the result on its image."""

    @abstractmethod
    def _plain(self) -> dict[str, Any]: ...


class Guess(NamedTuple):
    """A class that an image may show.

    Attributes:
        label: the class, from 0.
        name: its name.
        score: its probability.
    """

    label: int
    name: str
    score: float


@dataclass(kw_only=True)
class ClassificationResult(Result):
    """Which classes an image shows.

    Attributes:
        scores: (classes,) float32: the probability of each class; where classes are independent of each other, they do
            not sum to 1.
        topk: how many of the best are drawn and written.
    """

    scores: torch.Tensor = field(repr=False)
    topk: int = 5

    @property
    def label(self) -> int:
        """The best class."""
        return self.top(1)[0].label

    @property
    def name(self) -> str:
        """The best class's name."""
        return self.top(1)[0].name

    @property
    def score(self) -> float:
        """The best class's probability."""
        return self.top(1)[0].score

    @property
    def best(self) -> list[Guess]:
        """The `topk` best classes, the best first."""
        return self.top(self.topk)

    def top(self, count: int) -> list[Guess]:
        """Lists the best classes.

        Args:
            count: how many; all where there are fewer. Scores that are not finite count as 0.
        """
        # As the evaluation's PredictionWriter has it.
        scores = torch.nan_to_num(self.scores, 0.0, 0.0, 0.0)
        best = torch.topk(scores, min(count, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Guess(label, name_of(label, self.classes), score) for label, score in pairs]

    def draw(self, topk: int | None = None) -> Image.Image:
        """Draws the image with the best classes below it.

        Args:
            topk: how many classes; by default as many as the predictor was asked for.
        """
        canvas = Canvas(self.image)
        canvas.bars([(guess.name, guess.score) for guess in self.top(topk or self.topk)])
        return canvas.image

    def __str__(self) -> str:
        return ", ".join(f"{guess.name} {100 * guess.score:.1f} %" for guess in self.best)

    def _plain(self) -> dict[str, Any]:
        return {"predictions": [{"label": one.label, "class": one.name, "score": one.score} for one in self.best]}


class Found(NamedTuple):
    """One object.

    Attributes:
        label: its class, from 0.
        name: the class's name.
        score: 0 to 1.
        box: x1, y1, x2, y2 in pixels of the image.
        mask: (height, width) bool; None where no masks are predicted.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None


@dataclass(kw_only=True)
class DetectionResult(Result):
    """Which objects are in an image, the best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the image.
        labels: (n,) int64, from 0.
        scores: (n,) float32, 0 to 1.
        masks: (n, height, width) bool, as large as the image; None where no masks are predicted.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor
    masks: torch.Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Found]:
        for place, (box, label, score) in enumerate(
            zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        ):
            mask = self.masks[place].cpu().numpy().astype(bool) if self.masks is not None else None
            yield Found(label, name_of(label, self.classes), score, (box[0], box[1], box[2], box[3]), mask)

    @property
    def names(self) -> list[str]:
        """Each object's class by name."""
        return [name_of(label, self.classes) for label in self.labels.tolist()]

    def above(self, score_threshold: float) -> DetectionResult:
        """Gives the objects with at least that score."""
        keep = self.scores >= score_threshold
        masks = self.masks[keep] if self.masks is not None else None
        return replace(self, boxes=self.boxes[keep], labels=self.labels[keep], scores=self.scores[keep], masks=masks)

    def draw(self, score_threshold: float = 0.3, masks: bool = True, names: bool = True) -> Image.Image:
        """Draws boxes, masks, names and scores on the image; better objects lie over worse ones.

        Args:
            score_threshold: leave out objects with a lower score.
            masks: whether to draw masks, where there are any.
            names: whether to write names and scores.
        """
        canvas = Canvas(self.image)
        found = list(self.above(score_threshold))
        draw_objects(
            canvas,
            [one.box for one in found],
            [one.label for one in found],
            [one.mask for one in found] if masks else None,
            [f"{one.name} {one.score:.2f}" for one in found] if names else None,
        )
        return canvas.image

    def __str__(self) -> str:
        return ", ".join(f"{one.name} {one.score:.2f}" for one in self) or "nothing found"

    def _plain(self) -> dict[str, Any]:
        detections = []
        for one in self:
            entry = {"label": one.label, "class": one.name, "score": one.score, "box": list(one.box)}
            if one.mask is not None:
                entry["mask"] = encode_mask(one.mask)
            detections.append(entry)
        return {"detections": detections}


def draw_objects(
    canvas: Canvas,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    masks: Sequence[np.ndarray | None] | None = None,
    texts: Sequence[str] | None = None,
) -> None:
    """Draws objects: all masks, then all boxes, then all texts, of each the first object last and so on top.

    Args:
        canvas: the picture.
        boxes: x1, y1, x2, y2 in pixels of the canvas's image.
        labels: each object's class; it gives the colour.
        masks: (height, width) bool, or None, of each object.
        texts: of each object.
    """
    colours = [class_colour(label) for label in labels]
    backwards = range(len(boxes) - 1, -1, -1)
    for place in backwards if masks is not None else ():
        mask = masks[place] if masks is not None else None
        if mask is not None:
            canvas.fill(mask, colours[place])
    for place in backwards:
        canvas.box(boxes[place], colours[place])
    scale = min(1.0, max(0.7, (_FEW / max(1, len(boxes))) ** 0.5))  # in a crowd, texts would hide what they name
    for place, text in enumerate(texts or ()):
        canvas.tag(boxes[place], text, colours[place], scale)


@dataclass(kw_only=True)
class SegmentationResult(Result):
    """Which class each pixel of an image shows.

    Attributes:
        label_map: (height, width) int64, from 0, as large as the image.
        palette: red, green and blue by label, 0 to 255; None for the zoo's own colours.
    """

    label_map: torch.Tensor = field(repr=False)
    palette: tuple[Colour, ...] | None = field(default=None, repr=False)

    def shares(self) -> list[tuple[int, float]]:
        """Lists the classes that occur and their share of the image's area, the largest first."""
        labels, counts = torch.unique(self.label_map, return_counts=True)
        shares = (counts / max(1, self.label_map.numel())).tolist()
        return sorted(zip(labels.tolist(), shares, strict=True), key=lambda pair: -pair[1])

    def mask(self, label: int) -> np.ndarray:
        """Where a class is: (height, width) bool."""
        return (self.label_map == label).cpu().numpy()

    def colour(self, label: int) -> Colour:
        """The colour of a class."""
        known = self.palette is not None and label < len(self.palette)
        return self.palette[label] if known and self.palette is not None else class_colour(label)

    def to_image(self) -> Image.Image:
        """Makes a palette image: pixels are labels, and look like their colours. Up to 256 classes.

        Raises:
            ValueError: there are labels from 256 on.
        """
        labels = self.label_map.cpu().numpy()
        if labels.size and labels.max() > 255:
            raise ValueError(f"A palette image holds labels up to 255, this label map has {labels.max()}.")
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette([channel for label in range(256) for channel in self.colour(label)])
        return image

    def draw(self, strength: float = 0.6, legend: bool = True) -> Image.Image:
        """Tints the image by class.

        Args:
            strength: of the tint: 0 shows the image alone, 1 the colours alone.
            legend: whether to list the classes below, the largest first, with their share of the area.
        """
        canvas = Canvas(self.image)
        draw_labels(canvas, self.label_map.cpu().numpy(), self.classes, self.colour, strength, legend)
        return canvas.image

    def __str__(self) -> str:
        return ", ".join(f"{name_of(label, self.classes)} {100 * share:.1f} %" for label, share in self.shares())

    def _plain(self) -> dict[str, Any]:
        regions = [
            {
                "label": label,
                "class": name_of(label, self.classes),
                "share": share,
                "mask": encode_mask(self.mask(label)),
            }
            for label, share in self.shares()
        ]
        return {"regions": regions}


def draw_labels(
    canvas: Canvas,
    label_map: np.ndarray,
    classes: Sequence[str],
    colour: Any = class_colour,
    strength: float = 0.6,
    legend: bool = True,
    ignored: int = 255,
) -> None:
    """Tints a picture by a label map and lists the classes below.

    Args:
        canvas: the picture.
        label_map: (height, width) integers, as large as the canvas's image.
        classes: names by label.
        colour: gives a label's colour.
        strength: of the tint, 0 to 1.
        legend: whether to list the classes.
        ignored: the label of pixels that do not count; where there are more classes than that, none.
    """
    labels, counts = np.unique(label_map, return_counts=True)
    counted = [
        (int(label), count / label_map.size)
        for label, count in zip(labels, counts, strict=True)
        if label != ignored or label < len(classes)
    ]
    most = max((label for label, _ in counted), default=-1)
    canvas.fill_labels(
        label_map, [colour(label) for label in range(most + 1)], strength, ignored if ignored >= len(classes) else -1
    )
    if legend:
        counted.sort(key=lambda pair: -pair[1])
        canvas.legend([(colour(label), f"{name_of(label, classes)} {_percent(share)}") for label, share in counted])


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
