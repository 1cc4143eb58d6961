"""Predictions of a classifier for single images, as an evaluation writes them."""

from __future__ import annotations

import functools
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from ...deprecated_paths import renamed_names
from ..data.common.text_files import read_json
from ..data.formats.file_errors import (
    Field,
    FileErrors,
    check_entries,
    is_finite,
    is_id,
    is_name,
    is_optional_id,
    shortened,
)
from ..work_dir import PREDICTIONS

_PREDICTION = (
    Field("index", "must be an integer", is_id),
    Field("path", "must be a path or null", lambda value: value is None or isinstance(value, str)),
    Field("label", "must be an integer or null", is_optional_id),
    Field("class", "must be a name or null", lambda value: value is None or is_name(value)),
    Field("predictions", "must be a list of classes", lambda value: isinstance(value, list) and bool(value)),
)
_GUESS = (
    Field("label", "must be an integer", is_id),
    Field("class", "must be a name or null", lambda value: value is None or is_name(value)),
    Field("score", "must be a finite number", is_finite),
)


@dataclass(frozen=True)
class Prediction:
    """A classifier's prediction for one image.

    Attributes:
        index: Index of the sample in its data set.
        path: Path of the image.
        label: True class; None if unknown.
        label_name: Name of the true class.
        predicted: Most probable class.
        predicted_name: Name of the most probable class.
        score: Its probability.
    """

    index: int
    path: str
    label: int | None
    label_name: str
    predicted: int
    predicted_name: str
    score: float

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.predicted == self.label


def read_predictions(path: str | os.PathLike[str]) -> list[Prediction]:
    """Reads the predictions that `PredictionWriter` wrote in an evaluation.

    Args:
        path: The file, or a folder that contains predictions.json.

    Returns:
        One prediction per image, in the order of the data set.

    Raises:
        ValueError: There is no such file, or it does not contain predictions.
    """
    path = Path(path)
    if path.is_dir():
        path = path / PREDICTIONS
    if not path.is_file():
        raise ValueError(f"There is no file {path}; an evaluation (tools/test.py) writes {PREDICTIONS}.")
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} does not contain predictions written by tools/test.py, but {shortened(entries)}.")
    errors = FileErrors(path)
    if check_entries(entries, _PREDICTION, "prediction", errors):
        check_entries([entry["predictions"][0] for entry in entries], _GUESS, "best class of prediction", errors)
    try:
        errors.raise_if_any()
    except ValueError as error:
        raise ValueError(f"{path} does not contain predictions written by tools/test.py: {error}") from error
    return [_parse_prediction(entry) for entry in entries]


def _parse_prediction(entry: dict) -> Prediction:
    best, label = entry["predictions"][0], entry["label"]
    label_name, predicted_name = (
        str(part["label"] if part["class"] is None else part["class"]) for part in (entry, best)
    )
    return Prediction(
        index=entry["index"],
        path=str(entry["path"]),
        label=label,
        label_name=label_name,
        predicted=int(best["label"]),
        predicted_name=predicted_name,
        score=float(best["score"]),
    )


def readable_class_name(name: str) -> str:
    """Returns the first word for a WordNet id of ImageNet, "great white shark" for "n01484850"; others unchanged."""
    if not re.fullmatch(r"n\d{8}", name):
        return name
    try:
        return _imagenet_info().label_name_to_description(name).split(",")[0]
    except KeyError:
        return name


@functools.cache
def _imagenet_info() -> ImageNetInfo:
    return ImageNetInfo("imagenet-22k")


def choose_predictions(
    predictions: Sequence[Prediction], count: int, seed: int = 0, wrong: int | None = None
) -> list[int]:
    """Chooses predictions to plot: wrong ones with the highest scores, then a random sample of the correct ones.

    Args:
        predictions: All predictions.
        count: Maximum number of predictions.
        seed: Seed of the random sample.
        wrong: Maximum number of wrong predictions; by default a quarter of `count`.

    Returns:
        Indices into `predictions`, wrong ones first.
    """
    incorrect = [index for index, prediction in enumerate(predictions) if not prediction.correct]
    correct = [index for index, prediction in enumerate(predictions) if prediction.correct]
    incorrect.sort(key=lambda index: -predictions[index].score)
    chosen = incorrect[: min(count, max(1, count // 4) if wrong is None else wrong)]
    chosen += sorted(random.Random(seed).sample(correct, min(len(correct), count - len(chosen))))
    return chosen


__getattr__ = renamed_names(__name__, {"spoken_name": "readable_class_name"})
