"""The learning curve of a run, read from its scalars log and drawn as a PNG."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..evaluation.lookup import find_metric_info
from ..files import write_bytes
from ..work_dir import SCALARS, read_scalars


@dataclass
class LearningCurve:
    """What a training logged.

    Attributes:
        epochs: positions of the training records in epochs, ascending.
        losses: training loss at these positions; NaN where it was not finite.
        learning_rates: learning rate at these positions; NaN where it was not logged.
        metrics: for each validation metric its points (epochs, value), ascending.
    """

    epochs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    metrics: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def read_learning_curve(work_dir: str | os.PathLike[str]) -> LearningCurve:
    """Reads a training's scalars log.

    Args:
        work_dir: the training's work dir.

    Returns:
        The curve.

    Raises:
        ValueError: there is no log with a training record.
    """
    records = read_scalars(Path(work_dir))
    training = [record for record in records if record["mode"] == "train"]
    if not training:
        raise ValueError(f"There is no training log in {os.fspath(work_dir)!r} ({SCALARS}).")
    # A record says in which epoch an iteration was, not how long an epoch is; the last one of an epoch tells it.
    epoch_length = max(record["iter"] / record["epoch"] for record in training)
    curve = LearningCurve()
    for record in training:
        curve.epochs.append(record["iter"] / epoch_length)
        curve.losses.append(_number(record.get("loss")))
        curve.learning_rates.append(_number(record.get("lr")))
    for record in records:
        if record["mode"] == "val":
            for name, value in record.items():
                if name not in ("mode", "epoch", "iter") and math.isfinite(_number(value)):
                    curve.metrics.setdefault(name, []).append((record["iter"] / epoch_length, float(value)))
    return curve


def draw_learning_curve(
    work_dir: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, title: str | None = None
) -> Path:
    """Draws loss, learning rate and validation figures over the epochs.

    Of the figures that attnzoo's evaluators give it draws a few, of others' all.

    Args:
        work_dir: a training's work dir.
        out: PNG to write; learning_curve.png in the work dir by default.
        title: heading; the work dir's name by default.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: there is no log with a training record.
    """
    curve = read_learning_curve(work_dir)
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title or Path(work_dir).resolve().name)
    loss_axes, metric_axes = figure.subplots(1, 2)

    finite = [(x, y) for x, y in zip(curve.epochs, curve.losses, strict=True) if math.isfinite(y)]
    crowded = len(finite) > 60
    if finite:
        xs, ys = [x for x, _ in finite], [y for _, y in finite]
        loss_axes.plot(xs, ys, color="tab:blue", alpha=0.35 if crowded else 1.0, linewidth=1.2, label="training loss")
        if crowded:
            loss_axes.plot(xs, smoothed(ys), color="tab:blue", linewidth=1.8, label="its running mean")
    loss_axes.set(xlabel="epoch", ylabel="loss", title="Training")
    loss_axes.grid(alpha=0.3)
    rated = [(x, y) for x, y in zip(curve.epochs, curve.learning_rates, strict=True) if math.isfinite(y)]
    handles, labels = loss_axes.get_legend_handles_labels()
    if rated:
        rate_axes = loss_axes.twinx()
        rate_axes.plot(
            [x for x, _ in rated], [y for _, y in rated], color="tab:gray", linestyle="--", label="learning rate"
        )
        rate_axes.set_ylabel("learning rate")
        rate_axes.set_ylim(bottom=0)
        rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        more_handles, more_labels = rate_axes.get_legend_handles_labels()
        handles, labels = handles + more_handles, labels + more_labels
    loss_axes.legend(handles, labels, loc="upper right")

    infos = {name: info for name in curve.metrics if (info := find_metric_info(name)) is not None and info.headline}
    units = {info.unit for info in infos.values()}
    for name, points in sorted((name, points) for name, points in curve.metrics.items() if name in infos or not infos):
        epochs, values = [x for x, _ in points], [y for _, y in points]
        (line,) = metric_axes.plot(epochs, values, marker="o", markersize=3, label=name)
        info = infos.get(name)
        if info is not None and info.main:
            best = (max if info.higher_is_better else min)(range(len(values)), key=values.__getitem__)
            metric_axes.plot(epochs[best], values[best], marker="*", markersize=13, color=line.get_color())
            line.set_label(f"{name}, best {values[best]:.2f} {info.unit} (epoch {epochs[best]:.4g})")
    metric_axes.set(xlabel="epoch", ylabel=units.pop() if len(units) == 1 else "", title="Validation")
    if curve.metrics:
        metric_axes.legend(loc="best")
    else:
        metric_axes.text(
            0.5, 0.5, "no validation was logged", ha="center", va="center", transform=metric_axes.transAxes
        )
    metric_axes.grid(alpha=0.3)
    for axes in (loss_axes, metric_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_bytes(out or Path(work_dir) / "learning_curve.png", buffer.getvalue())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def smoothed(values: list[float], reach: int | None = None) -> list[float]:
    """Takes the running mean of a curve, centred, narrower at both ends.

    Args:
        values: of the curve.
        reach: how many values to either side; a sixtieth of the curve by default.
    """
    reach = max(1, len(values) // 60) if reach is None else reach
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        window = values[index - near : index + near + 1]
        means.append(sum(window) / len(window))
    return means
