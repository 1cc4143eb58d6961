"""Figures of what a model does with one image: attention of a query, receptive field, feature maps, Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..analysis.activation_maps import grad_cam, principal_colors, receptive_field, strongest_channels
from ..analysis.attention_maps import (
    AgentCall,
    QueryAttention,
    RangedCall,
    Recorded,
    RoutedCall,
    find_block,
    record_attention,
)
from .overlays import Box, Panel, draw_panels, to_array

_MOST_HEADS = 7
_MOST_OUTLINES = 200  # cells to outline one by one; beyond that the picture would be all lines
_CHANNELS = 3  # drawn a stage


@dataclass(frozen=True)
class Look:
    """What is looked at.

    Attributes:
        model: a backbone, or the `FeatureMaps` around one.
        name: what the model is called.
        image: (1, C, H, W), normalised.
        photo: (H, W, 3) uint8, the same image as it is shown.
        query: x and y in pixels of the image.
        stage: index of a stage.
        block: index of a block in it.
    """

    model: Any
    name: str
    image: torch.Tensor
    photo: np.ndarray
    query: tuple[float, float]
    stage: int
    block: int

    @property
    def where(self) -> str:
        """Names model, stage and block."""
        stages = getattr(self.model, "body", self.model).stages
        stage = self.stage % len(stages)
        return f"{self.name}, stage {stage}, block {self.block % len(stages[stage].blocks)}"

    def position(self, size: tuple[int, int]) -> tuple[int, int]:
        """Says in which row and column of a map the query lies."""
        tall, wide = self.cell(size)
        return min(int(self.query[1] / tall), size[0] - 1), min(int(self.query[0] / wide), size[1] - 1)

    def cell(self, size: tuple[int, int]) -> tuple[float, float]:
        """Gives height and width in pixels of a position of a map.

        That is the map's stride, also where the last row or column reaches beyond the image or the image beyond it.
        """
        return _stride(self.photo.shape[0], size[0]), _stride(self.photo.shape[1], size[1])

    def box(self, size: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int]) -> Box:
        """Gives the pixels of the positions from `rows[0]` to before `rows[1]`, and of columns alike."""
        tall, wide = self.cell(size)
        return cols[0] * wide, rows[0] * tall, cols[1] * wide, rows[1] * tall


def _stride(pixels: int, positions: int) -> float:
    """Finds the power of 2 that makes so many positions of so many pixels; their quotient where there is none."""
    for stride in (1, 2, 4, 8, 16, 32, 64):
        if positions in (-(-pixels // stride), pixels // stride):  # edges that fill no stride count, or are cut off
            return stride
    return pixels / positions


def draw_attention(look: Look, heads: Sequence[int] | None = None) -> tuple[bytes, str]:
    """Draws which keys the query sees, and how strongly; the receptive field where a block has no such weights.

    Args:
        look: what is looked at.
        heads: which heads to draw; the first few by default.

    Returns:
        The PNG's bytes, and a sentence.

    Raises:
        ValueError: there is no such stage, block or head.
    """
    recorded = record_attention(look.model, look.image, look.stage, look.block)
    if not recorded.calls:
        content, said = draw_receptive_field(look)
        return content, f"this block has no attention by position, so its receptive field was drawn; {said}"
    size = recorded.height, recorded.width
    y, x = look.position(size)
    seen = recorded.look(y, x)
    count = len(seen.probabilities)
    chosen = list(range(min(count, _MOST_HEADS))) if heads is None else list(heads)
    wrong = [head for head in chosen if not 0 <= head < count]
    if wrong:
        raise ValueError(f"There is no head {wrong[0]}; the block has {count}, 0 to {count - 1}.")
    extent = look.box(size, (0, seen.probabilities.shape[1]), (0, seen.probabilities.shape[2]))
    outlines, labels = _outlines(look, size, seen)
    hidden = ~seen.seen.numpy()

    def heat(values: torch.Tensor) -> np.ndarray:
        array = to_array(values)
        array[hidden] = np.nan
        return array

    panels = [Panel("the query", outlines=outlines, labels=labels)]
    panels += _agent_panels(look, recorded, seen, size)
    panels.append(Panel(f"mean of {count} heads", heat(seen.probabilities.mean(0)), extent=extent))
    if count > 1 or heads is not None:
        panels += [
            Panel(f"head {head}, at most {float(seen.probabilities[head].max()):.2g}", heat(seen.probabilities[head]),
                  extent=extent)
            for head in chosen
        ]  # fmt: skip
    elsewhere = float(seen.elsewhere.mean())
    note = (
        f"map of {size[0]} x {size[1]} positions; the query is at row {y}, column {x} and sees {int(seen.seen.sum())}"
    )
    if elsewhere > 5e-4:
        note += f"; {100 * elsewhere:.1f} % of the attention goes to {_place(recorded)}"
    padded = float(
        seen.probabilities.sum((1, 2)).mean() - seen.probabilities[:, : size[0], : size[1]].sum((1, 2)).mean()
    )
    if padded > 5e-4:
        note += f"; {100 * padded:.1f} % goes to positions that the map was padded with"
    kind = _kind(recorded)
    content = draw_panels(
        look.photo,
        panels,
        f"{kind} of {look.where}",
        note,
        look.query,
        look.box(size, (y, y + 1), (x, x + 1)),
        columns=4 if len(panels) > 3 else 3,
    )
    return content, f"{kind.lower()}, {note}"


def _kind(recorded: Recorded) -> str:
    call = recorded.calls[0]
    if isinstance(call, AgentCall):
        return "Agent attention"
    if isinstance(call, RoutedCall):
        return "Routed attention"
    if isinstance(call, RangedCall):
        return "Local attention"
    return "Attention"


def _place(recorded: Recorded) -> str:
    return "zeros outside of the map" if isinstance(recorded.calls[0], RangedCall) else "the class token"


def _outlines(look: Look, size: tuple[int, int], seen: QueryAttention) -> tuple[list[Box], list[str]]:
    """Gives boxes around what is seen: the chosen regions, or every key of a neighborhood."""
    if seen.regions:
        boxes = [look.box(size, (top, bottom), (left, right)) for top, left, bottom, right in seen.regions]
        return boxes, [str(rank + 1) for rank in range(len(boxes))]
    places = seen.seen.nonzero().tolist()
    rows, cols = zip(*places, strict=True)
    if len(places) == (max(rows) - min(rows) + 1) * (max(cols) - min(cols) + 1) < seen.seen.numel():
        return [look.box(size, (min(rows), max(rows) + 1), (min(cols), max(cols) + 1))], []  # no gaps
    if bool(seen.seen.all()) or len(places) > _MOST_OUTLINES:
        return [], []
    return [look.box(size, (row, row + 1), (col, col + 1)) for row, col in places], []


def _agent_panels(look: Look, recorded: Recorded, seen: QueryAttention, size: tuple[int, int]) -> list[Panel]:
    """Draws the agent that the query sees most strongly, and the keys that this agent gathers from."""
    call = recorded.calls[0]
    if not isinstance(call, AgentCall) or seen.agents is None:
        return []
    weights = seen.agents.mean(0)
    best = int(weights.argmax())
    gathered = call.gather.probabilities()[:, best].mean(0)[recorded.prefix :].view(size)
    title = f"agent {best} of {len(weights)}, seen with {float(weights[best]):.2g}, gathers from"
    return [Panel(title, to_array(gathered), extent=look.box(size, (0, size[0]), (0, size[1])))]


def draw_receptive_field(look: Look) -> tuple[bytes, str]:
    """Draws which pixels the query's position depends on: gradients by the pixels, for the block's output."""
    module, size = find_block(look.model, look.stage, look.block), output_size(look)
    y, x = look.position(size)
    field = receptive_field(look.model, look.image, module, y, x, size)
    share = float((field > 0.05).float().mean())
    note = (
        f"map of {size[0]} x {size[1]} positions; {100 * share:.1f} % of the pixels have over 5 % of its largest value"
    )
    content = draw_panels(
        look.photo,
        [Panel("the query"), Panel("gradient", to_array(field)), Panel("its square root", to_array(field.sqrt()))],
        f"Effective receptive field of {look.where}",
        note,
        look.query,
        look.box(size, (y, y + 1), (x, x + 1)),
        columns=3,
    )
    return content, note


def output_size(look: Look) -> tuple[int, int]:
    """Finds height and width of the map that the block gives, in positions."""
    module = find_block(look.model, look.stage, look.block)
    body = getattr(look.model, "body", look.model)
    sizes: list[tuple[int, int]] = []

    def note(_: Any, args: tuple[Any, ...], out: torch.Tensor) -> None:
        if out.ndim == 3:
            sizes.append((int(args[-1][0]), int(args[-1][1])))
        else:
            height, width = out.shape[2:] if body.map_layout == "NCHW" else out.shape[1:3]
            sizes.append((int(height), int(width)))

    handle = module.register_forward_hook(note)
    try:
        with torch.no_grad():
            look.model.eval()(look.image)
    finally:
        handle.remove()
    return sizes[0]


def draw_features(look: Look) -> tuple[bytes, str]:
    """Draws every stage's map: its three principal components as colours, and the channels that vary most."""
    with torch.no_grad():
        if hasattr(look.model, "body"):
            maps, indices = look.model.eval()(look.image), look.model.out_indices
        else:
            maps = look.model.eval().forward_intermediates(look.image, intermediates_only=True)
            indices = range(len(maps))
    panels = []
    for index, one in zip(indices, maps, strict=True):
        features = one[0]
        height, width = features.shape[1:]
        size = f"{height} x {width}"
        extent = look.box((height, width), (0, height), (0, width))
        panels.append(
            Panel(f"map {index}: {len(features)} channels, {size}", picture=to_array(principal_colors(features)),
                  shows_query=False)
        )  # fmt: skip
        for channel in strongest_channels(features, _CHANNELS):
            values = features[channel] - features[channel].min()
            panels.append(Panel(f"channel {channel}", to_array(values), extent=extent, shows_query=False))
    note = "colours: the three strongest principal components of each map; beside them the channels that vary most"
    content = draw_panels(look.photo, panels, f"Feature maps of {look.name}", note, columns=1 + _CHANNELS)
    return content, f"{len(maps)} maps"


def draw_grad_cam(look: Look, target: int | None, classes: Sequence[str] | None) -> tuple[bytes, str]:
    """Draws which positions of the block's map speak for a class."""
    module, size = find_block(look.model, look.stage, look.block), output_size(look)
    cam, target, probability = grad_cam(look.model, look.image, module, size, target)
    extent = look.box(size, (0, size[0]), (0, size[1]))
    name = classes[target] if classes else f"class {target}"
    note = f"{name}, probability {probability:.3f}; map of {size[0]} x {size[1]} positions"
    panels = [
        Panel("the image", shows_query=False),
        Panel("by position", to_array(cam), extent=extent, shows_query=False),
        Panel("interpolated", to_array(cam), extent=extent, smooth=True, shows_query=False),
    ]
    return draw_panels(look.photo, panels, f"Grad-CAM of {look.where}", note, columns=3), note
