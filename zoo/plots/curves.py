"""Curves of logged scalars: the learning curve of a training, and any scalars of several trainings."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...deprecated_paths import renamed_names
from ..analysis.training_logs import (
    LearningCurve,
    ScalarHistory,
    TrainingLog,
    is_validation,
    metric_name,
    read_learning_curve,
    running_mean,
)
from ..evaluation.lookup import find_metric_info
from ..files import write_bytes
from ..work_dir import LEARNING_CURVE
from .figures import new_figure, to_png

_CROWDED = 60  # a curve with more values is plotted with its running mean


def draw_learning_curve(
    work_dir: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, title: str | None = None
) -> Path:
    """Plots loss, learning rate and validation metrics over the epochs.

    If there are headline metrics among the validation metrics, only those are plotted.

    Args:
        work_dir: Work dir of a training.
        out: PNG to write; by default learning_curve.png in the work dir.
        title: Heading; by default the name of the work dir.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: There is no log with a training record.
    """
    curve = read_learning_curve(work_dir)
    figure = new_figure(11, 4.2, title=title or Path(work_dir).resolve().name)
    loss_axes, metric_axes = figure.subplots(1, 2)
    _plot_loss(loss_axes, curve)
    _plot_metrics(metric_axes, curve)
    for axes in (loss_axes, metric_axes):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return write_bytes(out or Path(work_dir) / LEARNING_CURVE, to_png(figure))


def _plot_loss(axes: Axes, curve: LearningCurve) -> None:
    epochs, losses = _finite(curve.epochs, curve.losses)
    crowded = len(losses) > _CROWDED
    if losses:
        axes.plot(
            epochs, losses, color="tab:blue", alpha=0.35 if crowded else 1.0, linewidth=1.2, label="training loss"
        )
    if crowded:
        axes.plot(epochs, running_mean(losses), color="tab:blue", linewidth=1.8, label="running mean")
    axes.set(xlabel="epoch", ylabel="loss", title="Training")
    handles, labels = axes.get_legend_handles_labels()
    epochs, rates = _finite(curve.epochs, curve.learning_rates)
    if rates:
        rate_axes = axes.twinx()
        rate_axes.plot(epochs, rates, color="tab:gray", linestyle="--", label="learning rate")
        rate_axes.set_ylabel("learning rate")
        rate_axes.set_ylim(bottom=0)
        rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        rate_handles, rate_labels = rate_axes.get_legend_handles_labels()
        handles, labels = handles + rate_handles, labels + rate_labels
    axes.legend(handles, labels, loc="upper right")


def _plot_metrics(axes: Axes, curve: LearningCurve) -> None:
    infos = {name: info for name in curve.metrics if (info := find_metric_info(name)) is not None and info.headline}
    units = {info.unit for info in infos.values()}
    for name, points in sorted(curve.metrics.items()):
        info = infos.get(name)
        if infos and info is None:
            continue
        epochs, values = [epoch for epoch, _ in points], [value for _, value in points]
        (line,) = axes.plot(epochs, values, marker="o", markersize=3, label=name)
        if info is not None and info.main:
            best = (max if info.higher_is_better else min)(range(len(values)), key=values.__getitem__)
            axes.plot(epochs[best], values[best], marker="*", markersize=13, color=line.get_color())
            line.set_label(f"{name}, best {values[best]:.2f} {info.unit} (epoch {epochs[best]:.4g})")
    axes.set(xlabel="epoch", ylabel=units.pop() if len(units) == 1 else "", title="Validation")
    if curve.metrics:
        axes.legend(loc="best")
    else:
        axes.text(0.5, 0.5, "no validation was logged", ha="center", va="center", transform=axes.transAxes)


def _finite(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    return [x for x, _ in points], [y for _, y in points]


def draw_scalars(
    logs: Sequence[TrainingLog],
    names: Sequence[str],
    smooth: int | None = None,
    by: str = "epoch",
    title: str | None = None,
) -> bytes:
    """Plots scalars of trainings, with one panel per kind: losses, learning rates, validation metrics, ...

    Args:
        logs: Logs of the trainings.
        names: Names of the scalars. A training that did not log one has no curve for it.
        smooth: Training curves are running means over this many values on either side, with the values themselves in a
            light color behind; 0 for none. By default a sixtieth of the length of curves with more than 60 values.
        by: "epoch" or "iter".
        title: Heading.

    Returns:
        The PNG.
    """
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(_panel(name, is_validation(logs, name)), []).append(name)
    columns = 1 if len(panels) == 1 else 2
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(7.5 * columns if columns > 1 else 9, 4.6 * rows, title=title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (kind, members) in zip(grid.flat, panels.items(), strict=False):
        count = 0
        for name in members:
            for log in logs:
                if name in log.scalars:
                    label = name if len(logs) == 1 else log.name if len(members) == 1 else f"{log.name}: {name}"
                    style = {"color": f"C{count % 10}", "linestyle": ("-", "--", ":", "-.")[count // 10 % 4]}
                    _plot_scalar(axes, log.scalars[name], smooth, by, label, style)
                    count += 1
        axes.set(xlabel="epoch" if by == "epoch" else "iteration", title=members[0] if len(members) == 1 else kind)
        axes.grid(alpha=0.3)
        if kind == "learning rate":
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        if len(members) > 1 or len(logs) > 1:
            axes.legend(fontsize=8 if count <= 10 else 6.5, ncols=1 if count <= 12 else 2)
    return to_png(figure)


def _plot_scalar(
    axes: Axes, history: ScalarHistory, smooth: int | None, by: str, label: str, style: Mapping[str, Any]
) -> None:
    xs = history.epochs if by == "epoch" else history.iterations
    if history.validation:
        axes.plot(xs, history.values, marker="o", markersize=3, label=label, **style)
    elif smooth == 0 or (smooth is None and len(history.values) <= _CROWDED):
        axes.plot(xs, history.values, linewidth=1.2, label=label, **style)
    else:
        axes.plot(xs, history.values, linewidth=0.8, alpha=0.25, **style)
        axes.plot(xs, running_mean(history.values, smooth), linewidth=1.6, label=label, **style)


def _panel(scalar: str, validation: bool) -> str:
    """Returns the kind of a scalar; scalars of one kind share a panel."""
    name = metric_name(scalar)
    if "loss" in name and name != "loss_scale":
        return "validation loss" if validation else "training loss"
    if validation:
        return "validation"
    if name == "lr" or name.endswith("_lr"):
        return "learning rate"
    return "seconds" if name in ("time", "data_time") else scalar


__getattr__ = renamed_names(__name__, {"draw_runs": "draw_scalars"})
