"""Comparison of models under one recipe: a table, and plots of accuracy against cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullFormatter

from ..analysis.comparison import Candidate
from ..files import write_bytes
from .figures import new_figure, to_png
from .labels import label_points

_COLUMNS: tuple[tuple[str, str, float, str], ...] = (
    ("top-1, %", "top1", 1, ".2f"),
    ("best, %", "best_top1", 1, ".2f"),
    ("parameters, M", "parameters", 1e6, ".3g"),
    ("MACs, M", "macs", 1e6, ".4g"),
    ("images/s", "throughput", 1, ".0f"),
    ("training images/s", "train_throughput", 1, ".0f"),
    ("peak, MB", "peak_bytes", 1e6, ".1f"),
    ("training peak, MB", "train_peak_bytes", 1e6, ".1f"),
    ("training, s", "seconds", 1, ".0f"),
)
_PANELS: tuple[tuple[str, str, float], ...] = (
    ("parameters, millions", "parameters", 1e6),
    ("multiply-accumulates per image, millions (FLOPs: twice as many)", "macs", 1e6),
    ("images per second in inference", "throughput", 1),
    ("peak memory of a training step, MB", "train_peak_bytes", 1e6),
)


def comparison_table(candidates: Sequence[Candidate]) -> str:
    """Formats a Markdown table, sorted by accuracy; failed candidates are last, with the reason below the table."""
    ranked = sorted(candidates, key=lambda one: (one.top1 is None, -(one.top1 or 0.0)))
    lines = [
        "| mixer | " + " | ".join(title for title, *_ in _COLUMNS) + " |",
        "|---|" + "--:|" * len(_COLUMNS),
    ]
    for candidate in ranked:
        cells = []
        for _, name, unit, form in _COLUMNS:
            value = getattr(candidate, name)
            cells.append("-" if value is None else format(value / unit, form))
        lines.append(f"| {candidate.name} | " + " | ".join(cells) + " |")
    failed = [f"- {candidate.name} failed: {candidate.error}" for candidate in ranked if candidate.error]
    return "\n".join([*lines, *(["", *failed] if failed else [])])


def draw_comparison(
    candidates: Sequence[Candidate], out: str | os.PathLike[str], title: str, subtitle: str = ""
) -> Path:
    """Plots accuracy against parameters, operations, throughput and memory, with one panel each.

    Args:
        candidates: Results of the models. Those without an accuracy are omitted.
        out: PNG to write.
        title: Heading.
        subtitle: Second line of the heading.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: None of the candidates has an accuracy.
    """
    plotted = [candidate for candidate in candidates if candidate.top1 is not None]
    if not plotted:
        raise ValueError("There is nothing to plot: no training was completed.")
    # In tab20 strong and light colors alternate; all strong ones are used before the light ones.
    order = (*range(0, 20, 2), *range(1, 20, 2))
    colors = {candidate.name: colormaps["tab20"](order[index % 20]) for index, candidate in enumerate(plotted)}
    figure = new_figure(13, 9.6, title=title + (f"\n{subtitle}" if subtitle else ""))
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (label, name, unit) in zip(panels.flat, _PANELS, strict=True):
        points = _points(plotted, name, unit)
        for candidate, x, y in points:
            axes.plot(x, y, marker="o", markersize=7, linestyle="", color=colors[candidate.name])
        axes.set(xlabel=label)
        axes.grid(alpha=0.3, which="both")
        axes.margins(x=0.2, y=0.1)
        _set_scale(axes, [x for _, x, _ in points])
    for axes in panels[:, 0]:
        axes.set_ylabel("top-1 after the last epoch, %")
    # Labels are positioned in pixels, so the points must not move afterwards: all panels get their common range first.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, (_, name, unit) in zip(panels.flat, _PANELS, strict=True):
        labels = [(one.name, x, y, _darker(colors[one.name])) for one, x, y in _points(plotted, name, unit)]
        label_points(axes, labels, fontsize=8.5)
    return write_bytes(out, to_png(figure))


def _points(candidates: Sequence[Candidate], attribute: str, unit: float) -> list[tuple[Candidate, float, float]]:
    """Returns the candidates for which an attribute is known, with its value in a unit, and their accuracies."""
    return [
        (candidate, getattr(candidate, attribute) / unit, candidate.top1)
        for candidate in candidates
        if candidate.top1 is not None and getattr(candidate, attribute) is not None
    ]


def _set_scale(axes: Axes, values: list[float]) -> None:
    """Sets a logarithmic scale with plain numbers if the values span a factor of 4 or more."""
    if not values or min(values) <= 0 or max(values) < 4 * min(values):
        axes.xaxis.set_major_locator(AutoLocator())
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _darker(color: Sequence[float]) -> str:
    """Returns a darker shade of a color, in which text is readable."""
    red, green, blue = (0.55 * part for part in color[:3])
    return to_hex((red, green, blue))
