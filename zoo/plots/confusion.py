"""Which classes are taken for which: a confusion matrix as a picture, and its worst pairs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .predictions import spoken_name

BACKGROUND = "background"
"""Name of the row of detections on nothing, and of the column of objects that were not found."""

LARGEST_WITH_NUMBERS = 40
"""Up to so many classes, each cell tells its share in a number as well."""


@dataclass
class Confusion:
    """How often each class was taken for which.

    Attributes:
        names: of the classes; in detection the last is the background.
        counts: (classes, classes) int64: rows are the right classes, columns the predicted ones. In classification it
            counts images, in segmentation pixels, in detection objects.
    """

    names: tuple[str, ...]
    counts: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """(classes, classes) float64, each row over its sum; 0 where a class does not occur."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return self.counts / np.maximum(totals, 1)


@dataclass(frozen=True)
class WorstPair:
    """A class that is taken for another.

    Attributes:
        name: the right class.
        guess: the predicted one.
        count: how often.
        share: of all that is of the right class, 0 to 1.
    """

    name: str
    guess: str
    count: int
    share: float


def read_confusion(path: str | os.PathLike[str]) -> Confusion:
    """Reads the matrix that an evaluation of a classifier or a segmentor wrote.

    Args:
        path: the JSON file with `confusion` and `classes`, or a folder with confusion.json in it.

    Raises:
        ValueError: there is no such file, or something else in it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "confusion.json"
    if not path.is_file():
        raise ValueError(f"There is no file {path}; an evaluation (tools/test.py --confusion) writes confusion.json.")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        counts = np.array(content["confusion"], dtype=np.int64)
        names = tuple(str(one["name"] if isinstance(one, Mapping) else one) for one in content["classes"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} does not hold a confusion matrix as tools/test.py writes it: {error!r}.") from error
    if counts.shape != (len(names), len(names)) or not names or (counts < 0).any():
        raise ValueError(f"{path} holds a matrix of shape {counts.shape} for {len(names)} classes.")
    return Confusion(names, counts)


def worst_pairs(confusion: Confusion, most: int = 20, by: str = "count") -> list[WorstPair]:
    """Finds what is confused most.

    Args:
        confusion: the matrix. What is taken for background, or the other way round, counts as well.
        most: how many pairs at most.
        by: "count", how often; or "share", how much of the right class.

    Returns:
        Worst first; pairs that never occur are left out.
    """
    wrong = confusion.counts * (1 - np.eye(len(confusion.names), dtype=np.int64))
    shares = confusion.shares
    badness = wrong if by == "count" else shares * (wrong > 0)
    order = np.argsort(-badness, axis=None, kind="stable")[:most]
    pairs = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[row, column]:
            name, guess = confusion.names[row], confusion.names[column]
            pairs.append(WorstPair(name, guess, int(wrong[row, column]), float(shares[row, column])))
    return pairs


def worst_classes(confusion: Confusion, most: int) -> list[int]:
    """Chooses the classes that are confused most, so that a matrix of many stays readable.

    Pairs are taken by the share of the right class that is taken for the other, worst first, both classes of each, so
    that what is confused stands in the picture. The background, where there is one, is always there.

    Returns:
        Their places, ascending; all where there are no more than `most`.
    """
    count = len(confusion.names)
    if count <= most:
        return list(range(count))
    chosen = {place for place, name in enumerate(confusion.names) if name == BACKGROUND}
    shares = confusion.shares
    own = shares.diagonal().copy()
    np.fill_diagonal(shares, 0)
    for place in chosen:
        shares[place], shares[:, place] = 0, 0
    for pair in np.argsort(-shares, axis=None, kind="stable"):
        both = set(divmod(int(pair), count))
        if len(chosen) >= most or not shares[divmod(int(pair), count)]:
            break
        if len(chosen | both) <= most:
            chosen |= both
    # Where too few are confused with others: those that are right least often.
    for place in np.argsort(own, kind="stable"):
        if len(chosen) >= most:
            break
        chosen.add(int(place))
    return sorted(chosen)


def format_pairs(pairs: Sequence[WorstPair]) -> str:
    """Writes pairs as a text table: the right class, the predicted one, how often, share of the right class."""
    if not pairs:
        return "Nothing was confused."
    rows = [("class", "taken for", "times", "share")]
    rows += [(_spoken(pair.name), _spoken(pair.guess), str(pair.count), f"{100 * pair.share:.1f} %") for pair in pairs]
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    return "\n".join(
        f"{name:<{widths[0]}}  {guess:<{widths[1]}}  {count:>{widths[2]}}  {share:>{widths[3]}}"
        for name, guess, count, share in rows
    )


def draw_confusion(confusion: Confusion, most: int = 40, title: str | None = None) -> bytes:
    """Draws the matrix, each row as shares of its class.

    Args:
        confusion: the matrix.
        most: how many classes to show at most; of more, those that are confused most. Shares stay those of the whole
            matrix.
        title: heading.

    Returns:
        The PNG's bytes.

    Raises:
        ValueError: `most` is under 2.
    """
    if most < 2:
        raise ValueError(f"A matrix shows at least 2 classes, not {most}.")
    chosen = worst_classes(confusion, most)
    shares = 100 * confusion.shares[np.ix_(chosen, chosen)]
    names = [_spoken(confusion.names[place]) for place in chosen]
    count = len(chosen)
    numbers = count <= LARGEST_WITH_NUMBERS
    side = count * (0.38 if numbers else max(0.17, min(0.3, 14 / count)))  # of the matrix, in inches
    names_width = 0.3 + 0.085 * max(map(len, names))
    figure = Figure(
        figsize=(max(5.0, side + names_width + 1.9), max(3.5, side + names_width + 1.2)),
        dpi=110 if side < 14 else 90,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heading = title or "Confusion"
    if count < len(confusion.names):
        heading += f"\nthe {count} of {len(confusion.names)} classes that are confused most"
    axes.set_title(heading, fontsize=11)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    fontsize = max(4.0, min(8.0, 45 * side / count))
    axes.set_xticks(range(count), names, rotation=90, fontsize=fontsize)
    axes.set_yticks(range(count), names, fontsize=fontsize)
    axes.set(xlabel="predicted", ylabel="right class")
    # Lines between cells, so that the eye finds row and column.
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.92", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    if numbers:
        for row, column in zip(*np.nonzero(confusion.counts[np.ix_(chosen, chosen)]), strict=True):
            value = shares[row, column]
            text = "100" if value >= 99.95 else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
            color = "white" if value > 55 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("% of the right class")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _spoken(name: str, longest: int = 26) -> str:
    name = spoken_name(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
