"""Figures of attention: which keys a query attends to, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..analysis.attention_calls import AgentAttentionCall, QueryAttention, RangedAttentionCall, RoutedAttentionCall
from ..analysis.attention_maps import RecordedAttention, record_attention
from .activations import draw_receptive_field
from .overlays import Box, Panel, draw_panels, to_array
from .view import View

_COLUMNS = 4
_WIDE_COLUMNS = 8  # for many heads
_MAX_OUTLINES = 200  # more keys than this are not outlined one by one, because only lines would be visible
_MIN_SHARE = 5e-4  # smaller shares of the attention are not mentioned


def draw_attention(view: View, heads: Sequence[int] | None = None) -> tuple[bytes, str]:
    """Plots which keys the query attends to, and how strongly.

    For a block without attention probabilities, the receptive field is plotted instead.

    Args:
        view: Model, image, query and block.
        heads: Heads to plot; by default all.

    Returns:
        The PNG, and a description in words.

    Raises:
        ValueError: There is no such stage, block or head.
    """
    recorded = record_attention(view.model, view.image, view.stage, view.block)
    if not recorded.calls:
        content, description = draw_receptive_field(view)
        return content, f"this block has no attention by position, so its receptive field is shown; {description}"
    size = recorded.height, recorded.width
    y, x = view.position(size)
    attention = recorded.query_attention(y, x)
    panels = [
        _query_panel(view, size, attention),
        *_agent_panels(view, recorded, attention, size),
        *_head_panels(view, size, attention, heads),
    ]
    kind, note = _kind(recorded), _describe(recorded, attention, size, (y, x))
    content = draw_panels(
        view.photo,
        panels,
        f"{kind} of {view.title}",
        note,
        view.query,
        view.box(size, (y, y + 1), (x, x + 1)),
        columns=3 if len(panels) <= 3 else _COLUMNS if len(panels) <= 4 * _COLUMNS else _WIDE_COLUMNS,
    )
    return content, f"{kind.lower()}, {note}"


def _kind(recorded: RecordedAttention) -> str:
    call = recorded.calls[0]
    if isinstance(call, AgentAttentionCall):
        return "Agent attention"
    if isinstance(call, RoutedAttentionCall):
        return "Routed attention"
    if isinstance(call, RangedAttentionCall):
        return "Local attention"
    return "Attention"


def _describe(
    recorded: RecordedAttention, attention: QueryAttention, size: tuple[int, int], position: tuple[int, int]
) -> str:
    """Describes the map, the query, and the attention to anything that is not on the map."""
    note = (
        f"map of {size[0]} x {size[1]} positions; the query is at row {position[0]}, column {position[1]} and sees "
        f"{int(attention.mask.sum())}"
    )
    off_map = float(attention.off_map.mean())
    if off_map > _MIN_SHARE:
        ranged = isinstance(recorded.calls[0], RangedAttentionCall)
        note += f"; {100 * off_map:.1f} % of the attention goes to "
        note += "zeros outside of the map" if ranged else "the class token"
    probs = attention.probs
    padding = float(probs.sum((1, 2)).mean() - probs[:, : size[0], : size[1]].sum((1, 2)).mean())
    if padding > _MIN_SHARE:
        note += f"; {100 * padding:.1f} % goes to padding of the map"
    return note


def _query_panel(view: View, size: tuple[int, int], attention: QueryAttention) -> Panel:
    """Outlines what the query sees: the selected regions, or the keys of a neighborhood."""
    if attention.regions:
        boxes = [view.box(size, (top, bottom), (left, right)) for top, left, bottom, right in attention.regions]
        return Panel("the query", outlines=boxes, labels=[str(rank + 1) for rank in range(len(boxes))])
    return Panel("the query", outlines=_key_outlines(view, size, attention.mask))


def _key_outlines(view: View, size: tuple[int, int], mask: torch.Tensor) -> list[Box]:
    keys = mask.nonzero().tolist()
    rows, cols = zip(*keys, strict=True)
    top, left, bottom, right = min(rows), min(cols), max(rows) + 1, max(cols) + 1
    if len(keys) == (bottom - top) * (right - left) < mask.numel():  # a rectangle without gaps
        return [view.box(size, (top, bottom), (left, right))]
    if bool(mask.all()) or len(keys) > _MAX_OUTLINES:
        return []
    return [view.box(size, (row, row + 1), (col, col + 1)) for row, col in keys]


def _agent_panels(
    view: View, recorded: RecordedAttention, attention: QueryAttention, size: tuple[int, int]
) -> list[Panel]:
    """Shows the keys of the agent that the query attends to most, if the block uses agent attention."""
    call = recorded.calls[0]
    if not isinstance(call, AgentAttentionCall) or attention.agent_probs is None:
        return []
    probs = attention.agent_probs.mean(0)
    agent = int(probs.argmax())
    keys = call.aggregation.probs()[:, agent].mean(0)[recorded.num_prefix_tokens :].view(size)
    title = f"keys of agent {agent} of {len(probs)}, which has {float(probs[agent]):.2g}"
    return [Panel(title, to_array(keys), extent=view.box(size, (0, size[0]), (0, size[1])))]


def _head_panels(
    view: View, size: tuple[int, int], attention: QueryAttention, heads: Sequence[int] | None
) -> list[Panel]:
    count, height, width = attention.probs.shape
    chosen = list(range(count)) if heads is None else list(heads)
    for head in chosen:
        if not 0 <= head < count:
            raise ValueError(f"There is no head {head}; the block has {count}, 0 to {count - 1}.")
    extent = view.box(size, (0, height), (0, width))
    hidden = ~attention.mask.numpy()

    def heat(probs: torch.Tensor) -> np.ndarray:
        return np.where(hidden, np.nan, to_array(probs))

    panels = [Panel(f"mean of {count} heads", heat(attention.probs.mean(0)), extent=extent)]
    if count > 1 or heads is not None:
        for head in chosen:
            probs = attention.probs[head]
            panels.append(Panel(f"head {head}, maximum {float(probs.max()):.2g}", heat(probs), extent=extent))
    return panels
