"""Curves of any logged scalars of one or several trainings, and a table of their best and last values."""

from __future__ import annotations

import fnmatch
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...names import unknown_name
from ..evaluation.lookup import find_metric_info
from ..work_dir import SCALARS, read_scalars
from .curves import smoothed

_NEITHER_GOOD_NOR_BAD = ("lr", "time", "memory", "grad_norm", "loss_scale")
_LEFT_OUT = ("mode", "epoch", "iter")


@dataclass
class Series:
    """A scalar's history.

    Attributes:
        validation: whether evaluations logged it, rather than training.
        epochs: positions in epochs, ascending.
        iterations: positions in iterations, ascending.
        values: finite ones; what was not finite is left out.
    """

    validation: bool
    epochs: list[float] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class Run:
    """A training's log.

    Attributes:
        name: of the run.
        series: histories by scalar; one that training and evaluations both log is called "val/..." in the latter.
        seconds_per_iteration: estimated: the mean of the logged means, by the iterations that they stand for; None
            where no time was logged.
        data_share: of these seconds, the part (0 to 1) that was spent waiting for data; None where not logged.
        hours: estimated from the same, of the training so far, without evaluations.
    """

    name: str
    series: dict[str, Series]
    seconds_per_iteration: float | None = None
    data_share: float | None = None
    hours: float | None = None


def read_run(work_dir: str | os.PathLike[str], name: str | None = None) -> Run:
    """Reads a training's scalars.

    Args:
        work_dir: its work dir.
        name: what to call it; the folder's name by default.

    Raises:
        ValueError: there is no log with a training record.
    """
    records = read_scalars(Path(work_dir))
    training = [record for record in records if record["mode"] == "train"]
    if not training:
        raise ValueError(f"There is no training log in {os.fspath(work_dir)!r} ({SCALARS}).")
    # A record says in which epoch an iteration was, not how long an epoch is; the last one of an epoch tells it.
    epoch_length = max(record["iter"] / record["epoch"] for record in training)
    trained = {key for record in training for key in record}
    run = Run(name or Path(work_dir).resolve().name, {})
    for record in records:
        validation = record["mode"] == "val"
        for key, value in record.items():
            if key in _LEFT_OUT or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                continue
            series = run.series.setdefault(
                f"val/{key}" if validation and key in trained else key, Series(validation=validation)
            )
            series.epochs.append(record["iter"] / epoch_length)
            series.iterations.append(record["iter"])
            series.values.append(float(value))
    _estimate_times(run, training)
    return run


def read_runs(work_dirs: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Reads several trainings; those whose folders have one name are called by their paths."""
    names = [Path(work_dir).resolve().name for work_dir in work_dirs]
    return [
        read_run(work_dir, os.fspath(work_dir) if names.count(name) > 1 else name)
        for work_dir, name in zip(work_dirs, names, strict=True)
    ]


def choose_keys(runs: Sequence[Run], wanted: Sequence[str] = ()) -> list[str]:
    """Finds the scalars that are meant.

    Args:
        runs: the trainings.
        wanted: names, or patterns such as "loss_*"; none are the loss and the main validation figures.

    Returns:
        Names, in the order asked for.

    Raises:
        ValueError: no run has logged such a scalar.
    """
    known = list(dict.fromkeys(key for run in runs for key in run.series))
    if not wanted:
        validated = [key for key in known if any(key in run.series and run.series[key].validation for run in runs)]
        main = [key for key in validated if (info := find_metric_info(key)) is not None and info.main]
        return [key for key in known if key == "loss"] + (main or validated[:3]) or known[:1]
    chosen: list[str] = []
    for pattern in wanted:
        found = [pattern] if pattern in known else [key for key in known if fnmatch.fnmatchcase(key, pattern)]
        if not found:
            raise ValueError(unknown_name("scalar", pattern, known, most=40))
        chosen += [key for key in found if key not in chosen]
    return chosen


def higher_is_better(key: str) -> bool | None:
    """Whether a scalar is better when it is higher; None where it is neither good nor bad, as a learning rate."""
    last = key.rsplit("/", 1)[-1]
    if any(last == name or last.endswith(f"_{name}") for name in _NEITHER_GOOD_NOR_BAD):
        return None
    info = find_metric_info(key)
    return "loss" not in last if info is None else info.higher_is_better


def best_of(key: str, series: Series) -> int | None:
    """The place of a scalar's best value, the first where several are; None where none is better than another."""
    higher = higher_is_better(key)
    if higher is None:
        return None
    choose = max if higher else min
    return choose(range(len(series.values)), key=series.values.__getitem__)


def format_runs(runs: Sequence[Run], keys: Sequence[str]) -> str:
    """Writes two text tables: best and last values of scalars, and the time that trainings took."""
    rows: list[tuple[str, ...]] = [("run", "scalar", "best", "in epoch", "last", "in epoch")]
    for run in runs:
        for key in keys:
            series = run.series.get(key)
            if series is None:
                continue
            best = best_of(key, series)
            top = ("-", "-") if best is None else (f"{series.values[best]:.6g}", f"{series.epochs[best]:.4g}")
            rows.append((run.name, key, *top, f"{series.values[-1]:.6g}", f"{series.epochs[-1]:.4g}"))
    times = [("run", "iterations", "s/iteration", "waiting for data", "training so far")]
    for run in runs:
        last = max(series.iterations[-1] for series in run.series.values()) if run.series else 0
        pace = "-" if run.seconds_per_iteration is None else f"{run.seconds_per_iteration:.4g}"
        share = "-" if run.data_share is None else f"{100 * run.data_share:.1f} %"
        hours = "-" if run.hours is None else f"{run.hours:.2f} h" if run.hours >= 1 else f"{60 * run.hours:.1f} min"
        times.append((run.name, str(last), pace, share, hours))
    return f"{_aligned(rows, left=2)}\n\n{_aligned(times, left=1)}"


def draw_runs(
    runs: Sequence[Run],
    keys: Sequence[str],
    smooth: int | None = None,
    by: str = "epoch",
    title: str | None = None,
) -> bytes:
    """Draws curves, those of one kind (losses, learning rates, validation figures, ...) in one panel.

    Args:
        runs: the trainings.
        keys: the scalars; a run that lacks one has no curve of it.
        smooth: training curves are running means over so many values to either side, with the values themselves pale
            behind; 0 for none. By default a sixtieth of a curve, of curves with over 60 values.
        by: "epoch" or "iter".
        title: heading.

    Returns:
        The PNG's bytes.
    """
    panels: dict[str, list[str]] = {}
    for key in keys:
        validation = any(key in run.series and run.series[key].validation for run in runs)
        panels.setdefault(_panel(key, validation), []).append(key)
    columns = 1 if len(panels) == 1 else 2
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(7.5 * columns if columns > 1 else 9, 4.6 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (kind, members) in zip(grid.flat, panels.items(), strict=False):
        drawn = 0
        for key in members:
            for run in runs:
                if key in run.series:
                    label = key if len(runs) == 1 else run.name if len(members) == 1 else f"{run.name}: {key}"
                    style = {"color": f"C{drawn % 10}", "linestyle": ("-", "--", ":", "-.")[drawn // 10 % 4]}
                    _draw_series(axes, run.series[key], smooth, by, label, style)
                    drawn += 1
        axes.set(xlabel="epoch" if by == "epoch" else "iteration", title=members[0] if len(members) == 1 else kind)
        axes.grid(alpha=0.3)
        if kind == "learning rate":
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        if len(members) > 1 or len(runs) > 1:
            axes.legend(fontsize=8 if drawn <= 10 else 6.5, ncols=1 if drawn <= 12 else 2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_series(axes: Axes, series: Series, smooth: int | None, by: str, label: str, style: Mapping[str, Any]) -> None:
    xs = series.epochs if by == "epoch" else series.iterations
    if series.validation:
        axes.plot(xs, series.values, marker="o", markersize=3, label=label, **style)
    elif smooth == 0 or (smooth is None and len(series.values) <= 60):
        axes.plot(xs, series.values, linewidth=1.2, label=label, **style)
    else:
        axes.plot(xs, series.values, linewidth=0.8, alpha=0.25, **style)
        axes.plot(xs, smoothed(series.values, smooth), linewidth=1.6, label=label, **style)


def _panel(key: str, validation: bool) -> str:
    last = key.rsplit("/", 1)[-1]
    if "loss" in last and last != "loss_scale":
        return "validation loss" if validation else "training loss"
    if validation:
        return "validation"
    if last == "lr" or last.endswith("_lr"):
        return "learning rate"
    return "seconds" if last in ("time", "data_time") else key


def _estimate_times(run: Run, training: Sequence[Mapping[str, object]]) -> None:
    """Sums up logged means of seconds, each for the iterations since the record before."""
    seconds = waiting = 0.0
    iterations = before = 0
    waits_logged = False
    for record in training:
        iteration, time, wait = record["iter"], record.get("time"), record.get("data_time")
        assert isinstance(iteration, int)
        if isinstance(time, int | float):
            iterations += iteration - before
            seconds += (iteration - before) * time
            if isinstance(wait, int | float):
                waiting += (iteration - before) * wait
                waits_logged = True
        before = iteration
    if iterations and seconds > 0:
        run.seconds_per_iteration = seconds / iterations
        run.hours = before * run.seconds_per_iteration / 3600
        run.data_share = waiting / seconds if waits_logged else None


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows in columns, the first `left` of them flush left."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
