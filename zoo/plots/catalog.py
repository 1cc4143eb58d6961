"""The model page: a table of every checkpoint, and a plot of accuracy against multiply-accumulates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ...backbones.registry import PretrainedCfg, get_pretrained_cfg, get_tags, list_families, list_models
from ...deprecated_paths import renamed_names
from ..analysis.catalog import ModelMeasurement, accuracy_points
from ..files import write_bytes
from .figures import new_figure, to_png
from .labels import label_points

_HEADER = """\
# Models

Every model of the zoo with all of its published checkpoints. `make models` writes this page and its plot; a test fails
if they are out of date.

- **Top-1** is ImageNet-1K validation accuracy as published, at the size in the row (after the arrow, if the
  published accuracy is for a larger size). None was measured here.
- **MACs** are multiply-accumulates per image at the size in the row, in billions; parameters are in millions.
- **Parity** is the maximum relative difference from the reference implementation with the same weights, over logits and
  feature maps. For the other models, only parameters and MACs were checked.
- **Kernels** are the zoo's own operations that the model uses ([neighborhood](kernels/neighborhood/README.md),
  [routing](kernels/routing/README.md)); the rest is PyTorch.
- The links were not opened when this page was written: **unverified** links are as their authors published them,
  **broken** ones were reported by users. `pretrained=True` reports the same.

![Published top-1 accuracy against multiply-accumulates]({plot})
"""

_COLUMNS = ("model", "params", "MACs", "size", "top-1", "license", "checkpoint", "parity", "kernels")


def catalog_page(measurements: Mapping[str, ModelMeasurement], plot: str) -> str:
    """Formats the page as Markdown.

    Args:
        measurements: Measurement of each model, by its name without a tag.
        plot: Link to the plot.

    Raises:
        ValueError: A model has no measurement, or there is no model for a measurement.
    """
    names = set(list_models())
    if names != set(measurements):
        raise ValueError(
            f"There must be one measurement per model; missing: {sorted(names - set(measurements))}, "
            f"unknown: {sorted(set(measurements) - names)}."
        )
    parts = [_HEADER.format(plot=plot)]
    for family in list_families():
        models = list_models(family=family)
        cfgs = [get_pretrained_cfg(f"{name}.{tag}") for name in models for tag in get_tags(name)]
        papers = {cfg.paper: cfg.paper_url for cfg in cfgs if cfg.paper}
        parts.append(f"## {family}\n")
        parts.append("\n".join(f"[{paper}]({url})  " for paper, url in papers.items()) + "\n")
        parts.append(_table([_cells(cfg, measurements[str(cfg.architecture)]) for cfg in cfgs]))
    return "\n".join(parts)


def draw_catalog(out: str | os.PathLike[str]) -> Path:
    """Plots the published accuracies against multiply-accumulates, with one color per family.

    Args:
        out: PNG to write.

    Returns:
        The path of the PNG.
    """
    figure = new_figure(14, 10)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set(
        xlabel="multiply-accumulates per image, billions (logarithmic)",
        ylabel="top-1 on ImageNet-1K, %, as published",
        title="Published accuracies with ImageNet-1K alone, at the size used in training",
    )
    labels = []
    for index, family in enumerate(list_families()):
        points = accuracy_points(family)
        if points:
            (line,) = axes.plot(
                [one[1] for one in points], [one[2] for one in points], "o", color=f"C{index}", label=family
            )
            labels += [(*one, str(line.get_color())) for one in points]
    axes.margins(0.05)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # fixed, because labels are positioned in pixels
    label_points(axes, labels)
    return write_bytes(out, to_png(figure))


def _cells(cfg: PretrainedCfg, measurement: ModelMeasurement) -> list[str]:
    size = _size(cfg.input_size)
    if cfg.test_input_size:
        size += f" → {_size(cfg.test_input_size)}"
    return [
        f"`{cfg.architecture}.{cfg.tag}`",
        "" if cfg.params is None else f"{cfg.params / 1e6:.2f}",
        "" if cfg.macs is None else f"{cfg.macs:.2f}",
        size,
        "" if cfg.top1 is None else f"{cfg.top1:g}",
        (cfg.license or "").partition(":")[0],
        _link(cfg),
        "parameters and MACs only" if measurement.parity is None else f"{measurement.parity:.0e}",
        ", ".join(measurement.kernels) or "none",
    ]


def _link(cfg: PretrainedCfg) -> str:
    if not cfg.has_weights:
        return "not published"
    links = []
    if cfg.url:
        links.append(f"[file]({cfg.url})")
    if cfg.hf_hub_id:
        links.append(f"[{cfg.hf_hub_id}](https://huggingface.co/{cfg.hf_hub_id})")
    status = " (broken)" if cfg.broken else "" if cfg.verified else " (unverified)"
    return " ".join(links) + status


def _size(size: Sequence[int]) -> str:
    return f"{size[1]}" if size[1] == size[2] else f"{size[1]}x{size[2]}"


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


__getattr__ = renamed_names(__name__, {"catalogue_page": "catalog_page", "draw_catalogue": "draw_catalog"})
