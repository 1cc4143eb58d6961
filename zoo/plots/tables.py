"""Text tables: costs of a model, logged scalars, confused classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...deprecated_paths import renamed_names
from ..analysis.confusion import ConfusedPair
from ..analysis.flops import ModelCost
from ..analysis.predictions import readable_class_name
from ..analysis.training_logs import TrainingLog, best_index


def align_columns(rows: Sequence[Sequence[str]], left: int) -> str:
    """Formats rows as aligned columns.

    Args:
        rows: Cells of each row.
        left: Number of leading columns that are left-aligned; the others are right-aligned.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def align_pairs(pairs: Sequence[tuple[str, Any]]) -> str:
    """Formats names and values as two columns."""
    return align_columns([(name, str(value)) for name, value in pairs], left=2)


def cost_table(cost: ModelCost, depth: int = 1) -> str:
    """Formats the cost of a model, one line per module.

    Args:
        cost: Cost of the model.
        depth: Maximum nesting depth of modules; 0 for the model alone.
    """
    rows = [("module", "class", "parameters", "MACs", "share", "activations")]
    for module in cost.modules:
        if module.depth <= depth:
            share = f"{100 * module.macs / cost.macs:.1f} %" if cost.macs else ""
            label = "  " * max(0, module.depth - 1) + (module.name.rpartition(".")[2] or "the model")
            counts = (format_count(module.parameters), format_count(module.macs), share)
            rows.append((label, module.kind, *counts, format_count(module.activations)))
    return align_columns(rows, left=2)


def scalar_table(logs: Sequence[TrainingLog], names: Sequence[str]) -> str:
    """Formats the best and last values of scalars, and the time that each training took, as two tables."""
    rows: list[tuple[str, ...]] = [("run", "scalar", "best", "in epoch", "last", "in epoch")]
    for log in logs:
        for name in names:
            history = log.scalars.get(name)
            if history is None:
                continue
            index = best_index(name, history)
            best = ("-", "-") if index is None else (f"{history.values[index]:.6g}", f"{history.epochs[index]:.4g}")
            rows.append((log.name, name, *best, f"{history.values[-1]:.6g}", f"{history.epochs[-1]:.4g}"))
    times = [("run", "iterations", "s/iteration", "waiting for data", "training so far")]
    for log in logs:
        last = max((history.iterations[-1] for history in log.scalars.values()), default=0)
        pace = "-" if log.seconds_per_iteration is None else f"{log.seconds_per_iteration:.4g}"
        share = "-" if log.data_share is None else f"{100 * log.data_share:.1f} %"
        hours = "-" if log.hours is None else f"{log.hours:.2f} h" if log.hours >= 1 else f"{60 * log.hours:.1f} min"
        times.append((log.name, str(last), pace, share, hours))
    return f"{align_columns(rows, left=2)}\n\n{align_columns(times, left=1)}"


def confused_pair_table(pairs: Sequence[ConfusedPair]) -> str:
    """Formats confused pairs: true class, predicted class, count, share of the true class."""
    if not pairs:
        return "No classes were confused."
    rows = [("class", "predicted as", "count", "share")]
    for pair in pairs:
        names = shorten_class_name(pair.label), shorten_class_name(pair.predicted)
        rows.append((*names, str(pair.count), f"{100 * pair.share:.1f} %"))
    return align_columns(rows, left=2)


def format_count(number: int) -> str:
    """Formats a number with three digits and a unit: 1234567 as "1.23 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            value = number / size
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return str(number)


def shorten_class_name(name: str, max_length: int = 26) -> str:
    """Returns a readable class name, truncated with an ellipsis to `max_length` characters."""
    name = readable_class_name(name)
    return name if len(name) <= max_length else name[: max_length - 1] + "…"


__getattr__ = renamed_names(
    __name__, {"format_pairs": "confused_pair_table", "format_runs": "scalar_table", "short": "format_count"}
)
