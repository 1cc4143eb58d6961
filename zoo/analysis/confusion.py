"""Confusion matrices of evaluations, and the classes that are confused most."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...deprecated_paths import renamed_names
from ..data.common.text_files import read_json
from ..work_dir import CONFUSION

BACKGROUND = "background"
"""Name of the row of false detections and of the column of objects that were not detected."""


@dataclass
class ConfusionMatrix:
    """Counts of predictions by true and predicted class.

    Attributes:
        names: Class names; in detection the last is the background.
        counts: (classes, classes) int64, true classes in rows, predicted ones in columns. Counts images in
            classification, pixels in segmentation, objects in detection.
    """

    names: tuple[str, ...]
    counts: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """(classes, classes) float64: `counts` divided by the sum of the row; 0 for classes that do not occur."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return self.counts / np.maximum(totals, 1)


@dataclass(frozen=True)
class ConfusedPair:
    """A class that is predicted as another.

    Attributes:
        label: Name of the true class.
        predicted: Name of the predicted class.
        count: How often this happened.
        share: Share of all samples of the true class, 0 to 1.
    """

    label: str
    predicted: str
    count: int
    share: float


def read_confusion(path: str | os.PathLike[str]) -> ConfusionMatrix:
    """Reads the confusion matrix that an evaluation of a classifier or a segmentor wrote.

    Args:
        path: JSON file with `confusion` and `classes`, or a folder that contains confusion.json.

    Raises:
        ValueError: There is no such file, or it does not contain a confusion matrix.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CONFUSION
    if not path.is_file():
        raise ValueError(f"There is no file {path}; an evaluation (tools/test.py --confusion) writes {CONFUSION}.")
    try:
        content = read_json(path)
        counts = np.array(content["confusion"], dtype=np.int64)
        names = tuple(str(entry["name"] if isinstance(entry, Mapping) else entry) for entry in content["classes"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} does not contain a confusion matrix written by tools/test.py: {error!r}.") from error
    if counts.shape != (len(names), len(names)) or not names or (counts < 0).any():
        raise ValueError(
            f"{path} must contain a matrix of non-negative counts for {len(names)} classes, got shape {counts.shape}."
        )
    return ConfusionMatrix(names, counts)


def most_confused_pairs(confusion: ConfusionMatrix, limit: int = 20, by: str = "count") -> list[ConfusedPair]:
    """Returns the pairs of classes that are confused most, in descending order.

    Args:
        confusion: The matrix. Confusions with the background count as well.
        limit: Maximum number of pairs. Pairs that never occur are omitted.
        by: "count", or "share" of the true class.
    """
    errors = confusion.counts * (1 - np.eye(len(confusion.names), dtype=np.int64))
    shares = confusion.shares
    ranking = errors if by == "count" else shares * (errors > 0)
    order = np.argsort(-ranking, axis=None, kind="stable")[:limit]
    return [
        ConfusedPair(
            confusion.names[row], confusion.names[column], int(errors[row, column]), float(shares[row, column])
        )
        for row, column in zip(*np.unravel_index(order, errors.shape), strict=True)
        if errors[row, column]
    ]


def most_confused_classes(confusion: ConfusionMatrix, limit: int) -> list[int]:
    """Chooses the classes that are confused most, so that a plot of many classes stays readable.

    Pairs are taken by the share of the true class, in descending order, with both of their classes. The background, if
    there is one, is always chosen.

    Returns:
        Indices of the classes, ascending; all if there are at most `limit`.
    """
    count = len(confusion.names)
    if count <= limit:
        return list(range(count))
    chosen = {index for index, name in enumerate(confusion.names) if name == BACKGROUND}
    shares = confusion.shares
    accuracies = shares.diagonal().copy()
    np.fill_diagonal(shares, 0)
    for index in chosen:
        shares[index], shares[:, index] = 0, 0
    for flat_index in np.argsort(-shares, axis=None, kind="stable"):
        pair = divmod(int(flat_index), count)
        if len(chosen) >= limit or not shares[pair]:
            break
        if len(chosen | set(pair)) <= limit:
            chosen |= set(pair)
    # If fewer classes are confused with others, the least accurate ones follow.
    for index in np.argsort(accuracies, kind="stable"):
        if len(chosen) >= limit:
            break
        chosen.add(int(index))
    return sorted(chosen)


__getattr__ = renamed_names(
    __name__,
    {
        "Confusion": "ConfusionMatrix",
        "WorstPair": "ConfusedPair",
        "worst_classes": "most_confused_classes",
        "worst_pairs": "most_confused_pairs",
    },
)
