"""A comparison of models that were trained alike: a table, and accuracy against what it costs."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullFormatter

from ..files import write_bytes
from .labels import label_points


@dataclass
class Contender:
    """What came out for one model; None where it was not found out.

    Attributes:
        name: what it is called in the table and picture.
        top1: accuracy after the last epoch in percent.
        best_top1: the best of all evaluations in percent; the evaluations also chose it.
        parameters: how many.
        macs: multiply-accumulates of one image.
        throughput: images a second in inference.
        train_throughput: images a second in training steps.
        peak_bytes: that tensors hold at most in inference, beyond weights and images.
        train_peak_bytes: the same in a training step.
        seconds: that training took, evaluations included.
        error: why the rest is missing.
    """

    name: str
    top1: float | None = None
    best_top1: float | None = None
    parameters: int | None = None
    macs: int | None = None
    throughput: float | None = None
    train_throughput: float | None = None
    peak_bytes: int | None = None
    train_peak_bytes: int | None = None
    seconds: float | None = None
    error: str | None = None


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
    ("multiply-accumulates an image, millions (FLOPs: twice as many)", "macs", 1e6),
    ("images a second in inference", "throughput", 1),
    ("peak memory of a training step, MB", "train_peak_bytes", 1e6),
)


def comparison_table(contenders: Sequence[Contender]) -> str:
    """Writes a Markdown table, the most accurate first; those that failed come last, with the reason below."""
    ranked = sorted(contenders, key=lambda one: (one.top1 is None, -(one.top1 or 0.0)))
    lines = [
        "| mixer | " + " | ".join(title for title, *_ in _COLUMNS) + " |",
        "|---|" + "--:|" * len(_COLUMNS),
    ]
    for one in ranked:
        cells = []
        for _, name, unit, form in _COLUMNS:
            value = getattr(one, name)
            cells.append("-" if value is None else format(value / unit, form))
        lines.append(f"| {one.name} | " + " | ".join(cells) + " |")
    failed = [f"- {one.name} failed: {one.error}" for one in ranked if one.error]
    return "\n".join([*lines, *(["", *failed] if failed else [])])


def draw_comparison(
    contenders: Sequence[Contender], out: str | os.PathLike[str], title: str, subtitle: str = ""
) -> Path:
    """Draws accuracy against parameters, operations, throughput and memory, one panel each.

    Args:
        contenders: those without an accuracy are left out.
        out: PNG to write.
        title: heading.
        subtitle: second line of it, smaller.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: none of them has an accuracy.
    """
    shown = [one for one in contenders if one.top1 is not None]
    if not shown:
        raise ValueError("There is nothing to draw: no training came to its end.")
    # The map's strong colours are every other one; its pale ones come after them.
    places = (*range(0, 20, 2), *range(1, 20, 2))
    colors = {one.name: colormaps["tab20"](places[index % 20]) for index, one in enumerate(shown)}
    figure = Figure(figsize=(13, 9.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title + (f"\n{subtitle}" if subtitle else ""), fontsize=12)
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (label, name, unit) in zip(panels.flat, _PANELS, strict=True):
        points = [(one, getattr(one, name) / unit) for one in shown if getattr(one, name) is not None]
        for one, x in points:
            axes.plot(x, one.top1, marker="o", markersize=7, linestyle="", color=colors[one.name])
        axes.set(xlabel=label)
        axes.grid(alpha=0.3, which="both")
        axes.margins(x=0.2, y=0.1)
        _scale(axes, [x for _, x in points])
    for axes in panels[:, 0]:
        axes.set_ylabel("top-1 after the last epoch, %")
    # Labels are placed where points do not move any more, and so after all panels have their common range.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, (_, name, unit) in zip(panels.flat, _PANELS, strict=True):
        labels = [
            (one.name, getattr(one, name) / unit, one.top1, _darker(colors[one.name]))
            for one in shown
            if one.top1 is not None and getattr(one, name) is not None
        ]
        label_points(axes, labels, fontsize=8.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_bytes(out, buffer.getvalue())


def _scale(axes: Axes, values: list[float]) -> None:
    """Chooses a logarithmic scale where values span more than a factor of 4, with plain numbers on it."""
    if not values or min(values) <= 0 or max(values) < 4 * min(values):
        axes.xaxis.set_major_locator(AutoLocator())
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _darker(color: Sequence[float]) -> str:
    """Gives a colour that letters can be read in."""
    red, green, blue = (0.55 * part for part in color[:3])
    return to_hex((red, green, blue))
