"""Predictions of single images, as an evaluation leaves them, and a picture of some of them."""

from __future__ import annotations

import functools
import io
import json
import math
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo


@dataclass(frozen=True)
class Prediction:
    """What a classifier said of one image.

    Attributes:
        index: the sample's position in its data set.
        path: where the image came from.
        label: its true class; None where unknown.
        name: the true class's name.
        guess: the most probable class.
        guess_name: its name.
        score: its probability.
    """

    index: int
    path: str
    label: int | None
    name: str
    guess: int
    guess_name: str
    score: float

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.guess == self.label


def read_predictions(path: str | os.PathLike[str]) -> list[Prediction]:
    """Reads the predictions that `PredictionWriter` wrote in an evaluation.

    Args:
        path: the file, or the folder with predictions.json in it.

    Returns:
        One for each image, in the data set's order.

    Raises:
        ValueError: there is no such file, or something else in it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "predictions.json"
    if not path.is_file():
        raise ValueError(f"There is no file {path}; an evaluation (tools/test.py) writes predictions.json.")
    try:
        return [_read(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} does not hold predictions as tools/test.py writes them: {error!r}.") from error


def _read(entry: dict) -> Prediction:
    best, label = entry["predictions"][0], entry["label"]
    name, guess_name = (str(part["label"] if part["class"] is None else part["class"]) for part in (entry, best))
    return Prediction(
        entry["index"], str(entry["path"]), label, name, int(best["label"]), guess_name, float(best["score"])
    )


def spoken_name(name: str) -> str:
    """Turns one of ImageNet's WordNet ids into its first word, "n01484850" into "great white shark"; others stay."""
    if not re.fullmatch(r"n\d{8}", name):
        return name
    try:
        return _imagenet().label_name_to_description(name).split(",")[0]
    except KeyError:
        return name


@functools.cache
def _imagenet() -> ImageNetInfo:
    return ImageNetInfo("imagenet-22k")


def choose_predictions(
    predictions: Sequence[Prediction], count: int, seed: int = 0, wrong: int | None = None
) -> list[int]:
    """Chooses which predictions to draw: some wrong ones, then a random sample of the right ones.

    Args:
        predictions: all of them.
        count: how many to choose at most.
        seed: seed of the choice.
        wrong: at most so many wrong ones; a quarter of `count` by default. Those with the highest score come first.

    Returns:
        Positions in `predictions`, wrong ones first.
    """
    missed = [position for position, prediction in enumerate(predictions) if not prediction.correct]
    right = [position for position, prediction in enumerate(predictions) if prediction.correct]
    missed.sort(key=lambda position: -predictions[position].score)
    chosen = missed[: min(count, max(1, count // 4) if wrong is None else wrong)]
    chosen += sorted(random.Random(seed).sample(right, min(len(right), count - len(chosen))))
    return chosen


def draw_predictions(
    predictions: Sequence[Prediction],
    load_image: Callable[[Prediction], Image.Image],
    columns: int = 8,
    title: str | None = None,
) -> bytes:
    """Draws images in a grid, with what was predicted; wrong predictions are framed and lettered in red.

    Args:
        predictions: those to draw, in order.
        load_image: returns an image as it is stored.
        columns: images in a row.
        title: heading.

    Returns:
        The PNG's bytes.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not predictions:
        raise ValueError("There are no predictions to draw.")
    columns = min(columns, len(predictions))
    rows = math.ceil(len(predictions) / columns)
    figure = Figure(
        figsize=(1.7 * columns + 0.2, 2.15 * rows + (0.45 if title else 0.1)), dpi=110, layout="constrained"
    )
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=12)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, prediction in zip(grid.flat, predictions, strict=False):
        image = load_image(prediction)
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        axes.imshow(
            np.asarray(image.convert("RGB")), interpolation="nearest" if max(image.size) < 100 else "antialiased"
        )
        guess = f"{_short(prediction.guess_name)}  {_percent(prediction.score)}"
        if prediction.label is None:
            axes.set_title(guess, fontsize=9)
        elif prediction.correct:
            axes.set_title(guess, fontsize=9, color="tab:green")
        else:
            axes.set_title(f"{guess}\nis {_short(prediction.name)}", fontsize=9, color="tab:red", fontweight="bold")
            for spine in axes.spines.values():
                spine.set(color="tab:red", linewidth=3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _percent(score: float) -> str:
    percent = 100 * score
    return "100 %" if percent >= 99.95 else f"{percent:.1f} %"


def _short(name: str, longest: int = 14) -> str:
    name = spoken_name(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
