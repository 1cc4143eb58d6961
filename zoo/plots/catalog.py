"""The zoo as one page: a table of every checkpoint and a picture of accuracy against multiply-accumulates."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ...backbones.registry import PretrainedCfg, get_pretrained_cfg, get_tags, list_families, list_models
from ..files import write_bytes
from .labels import label_points

_HEADER = """\
# Models

Every model of the zoo with every checkpoint that was published for it. This page and its picture are written by
`make models`; a test fails where they are out of date.

- **Top-1** is ImageNet-1K validation accuracy as published, at the size in that row (after an arrow: the larger size
  that it was published at). None was measured here.
- **MACs** are multiply-accumulates of one image at the size in that row, in billions; parameters are in millions.
- **Parity** is the largest relative difference from what the official code computes with the same weights, over
  logits and feature maps, loaded from the official names. "parameters and MACs only" is what was checked of the others.
- **Kernels** are the zoo's own operations that the model calls ([neighborhood](kernels/neighborhood/README.md),
  [routing](kernels/routing/README.md)); the rest is PyTorch's.
- No link could be opened where this was written: **unverified** links are those that their authors give, **broken**
  ones users report as such. `pretrained=True` says the same.

![Published top-1 accuracy against multiply-accumulates]({picture})
"""
_COLUMNS = ("model", "params", "MACs", "size", "top-1", "licence", "checkpoint", "parity", "kernels")


@dataclass(frozen=True)
class Measured:
    """What is found by running a model.

    Attributes:
        parity: largest relative error against its official code; None where there is nothing to compare with.
        kernels: the zoo's operations that it calls, sorted.
    """

    parity: float | None
    kernels: tuple[str, ...]


def catalogue_page(measured: Mapping[str, Measured], picture: str) -> str:
    """Writes the page as Markdown.

    Args:
        measured: for each model, without tags.
        picture: link to the picture.

    Raises:
        ValueError: a model is not measured, or something that is measured is no model.
    """
    names = set(list_models())
    if names != set(measured):
        raise ValueError(
            f"Measured must be every model; missing are {sorted(names - set(measured))}, "
            f"unknown are {sorted(set(measured) - names)}."
        )
    parts = [_HEADER.format(picture=picture)]
    for family in list_families():
        models = list_models(family=family)
        cfgs = [get_pretrained_cfg(f"{name}.{tag}") for name in models for tag in get_tags(name)]
        papers = {cfg.paper: cfg.paper_url for cfg in cfgs if cfg.paper}
        parts.append(f"## {family}\n")
        parts.append("\n".join(f"[{paper}]({url})  " for paper, url in papers.items()) + "\n")
        parts.append(_table([_cells(cfg, measured[str(cfg.architecture)]) for cfg in cfgs]))
    return "\n".join(parts)


def draw_catalogue(out: str | os.PathLike[str]) -> Path:
    """Draws the published accuracies against multiply-accumulates, one colour a family, as a PNG.

    Args:
        out: file to write.

    Returns:
        Its path.
    """
    figure = Figure(figsize=(14, 10), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set(
        xlabel="multiply-accumulates of an image, billions (logarithmic)",
        ylabel="top-1 on ImageNet-1K, %, as published",
        title="Published accuracies with ImageNet-1K alone, at the size that was trained at",
    )
    labels = []
    for index, family in enumerate(list_families()):
        points = _points(family)
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
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # as they are: labels are placed by them
    label_points(axes, labels)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_bytes(out, buffer.getvalue())


def _points(family: str) -> list[tuple[str, float, float]]:
    """Name, MACs and accuracy of each model's best checkpoint that compares with the others."""
    best: dict[str, tuple[str, float, float]] = {}
    for name in list_models(family=family):
        for tag in get_tags(name):
            cfg = get_pretrained_cfg(f"{name}.{tag}")
            if cfg.top1 is None or cfg.macs is None or cfg.test_input_size or "22k" in tag:
                continue
            if name not in best or cfg.top1 > best[name][2]:
                best[name] = name, cfg.macs, cfg.top1
    return sorted(best.values(), key=lambda one: one[1])


def _cells(cfg: PretrainedCfg, measured: Measured) -> list[str]:
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
        "parameters and MACs only" if measured.parity is None else f"{measured.parity:.0e}",
        ", ".join(measured.kernels) or "none",
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
