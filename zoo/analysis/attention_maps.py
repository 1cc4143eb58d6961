"""Which keys a query sees, and how strongly: computed from the queries, keys and biases that a model's own call had.

The calls of attention inside a block are recorded as they happen: the zoo's operators (neighborhoods, windows, halos,
routed regions) and PyTorch's scaled dot-product attention. Nothing is read from the models' code, so that every mixer
that attends through them can be looked into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ...kernels.neighborhood.geometry import AxisTables, axis_tables, decode_rule


@dataclass(frozen=True)
class QueryAttention:
    """What one query sees.

    Attributes:
        probabilities: (heads, height, width) float32, of the keys on the map, its padding included.
        elsewhere: (heads,) float32, of keys that have no place on the map: zeros outside of it, class tokens.
        seen: (height, width) bool, the keys that take part.
        output: (heads, dim) float32, the values under these probabilities: what the model's own call gives.
        expected: (heads, dim) float32, what it gave.
        regions: (top, left, bottom, right) of the regions that were chosen, in positions, the best first.
        agents: (heads, agents) float32, how strongly the query sees each agent, where there are agents.
    """

    probabilities: torch.Tensor
    elsewhere: torch.Tensor
    seen: torch.Tensor
    output: torch.Tensor
    expected: torch.Tensor
    regions: tuple[tuple[int, int, int, int], ...] = ()
    agents: torch.Tensor | None = None


@dataclass(frozen=True)
class RangedCall:
    """A call of neighborhood, window or halo attention; the operands are those of its operator, of one image."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    rpb: torch.Tensor | None
    row_terms: torch.Tensor | None
    col_terms: torch.Tensor | None
    rows: Sequence[int]
    cols: Sequence[int]
    scale: float
    out: torch.Tensor

    def look(self, y: int, x: int) -> QueryAttention:
        """Says what the query at row `y` and column `x` of the grid of queries sees."""
        height, width = self.key.shape[1:3]
        rules = decode_rule(self.rows), decode_rule(self.cols)
        tables = [
            axis_tables(rule, self.query.shape[axis], self.key.shape[axis])
            for rule, axis in zip(rules, (1, 2), strict=True)
        ]
        (row_keys, row_index), (col_keys, col_index) = (
            _keys_of(one, place) for one, place in zip(tables, (y, x), strict=True)
        )
        heads = self.query.shape[3]
        key, value = (
            _gathered(one[0].float(), row_keys, col_keys).repeat_interleave(heads // one.shape[3], dim=2)
            for one in (self.key, self.value)
        )
        query = self.query[0, y, x].float()
        scores = self.scale * torch.einsum("hd,rchd->hrc", query, key)
        if self.rpb is not None:
            scores = scores + self.rpb.float()[:, row_index][:, :, col_index]
        if self.row_terms is not None:
            scores = scores + self.row_terms[0, y, x].float()[:, row_index, None]
        if self.col_terms is not None:
            scores = scores + self.col_terms[0, y, x].float()[:, None, col_index]
        weights = scores.flatten(1).softmax(-1).view_as(scores)
        inside = ((row_keys >= 0)[:, None] & (col_keys >= 0)).float()
        on_map = torch.zeros(heads, height, width)
        places = row_keys.clamp_min(0)[:, None] * width + col_keys.clamp_min(0)
        on_map.flatten(1).index_add_(1, places.flatten(), (weights * inside).flatten(1))
        seen = torch.zeros(height * width, dtype=torch.bool)
        seen[places[inside > 0]] = True
        return QueryAttention(
            on_map,
            (weights * (1 - inside)).sum((1, 2)),
            seen.view(height, width),
            torch.einsum("hrc,rchd->hd", weights, value),
            self.out[0, y, x].float(),
        )


def _keys_of(tables: AxisTables, place: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives the positions of a query's keys (-1 outside the axis), and their indices into a bias."""
    slot = int((tables.query_order == place).nonzero())
    slots = torch.arange(int(tables.start[slot]), int(tables.end[slot]))
    inside = (slots >= 0) & (slots < tables.num_keys)
    positions = torch.where(inside, tables.key_order[slots.clamp(0, tables.num_keys - 1)], -1)
    return positions, slots - tables.origin[slot]


def _gathered(keys: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
    """Takes keys (H, W, heads, dim) at rows and columns, zeros outside the map: (rows, columns, heads, dim)."""
    taken = keys[rows.clamp_min(0)][:, cols.clamp_min(0)]
    inside = (rows >= 0)[:, None] & (cols >= 0)
    return taken * inside[..., None, None]


@dataclass(frozen=True)
class RoutedCall:
    """A call of bi-level routing attention; the operands are those of its operator, of one image."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    routes: torch.Tensor
    grid: Sequence[int]
    scale: float
    out: torch.Tensor

    def look(self, y: int, x: int) -> QueryAttention:
        """Says what the query at row `y` and column `x` sees."""
        height, width, heads = self.query.shape[1:4]
        rows, cols = self.grid
        tall, wide = height // rows, width // cols
        chosen = self.routes[0, y // tall * cols + x // wide].tolist()
        regions = tuple(
            (one // cols * tall, one % cols * wide, (one // cols + 1) * tall, (one % cols + 1) * wide) for one in chosen
        )
        places = torch.cat(
            [
                (torch.arange(top, bottom)[:, None] * width + torch.arange(left, right)).flatten()
                for top, left, bottom, right in regions
            ]
        )
        key, value = (one[0].float().flatten(0, 1)[places] for one in (self.key, self.value))
        scores = self.scale * torch.einsum("hd,nhd->hn", self.query[0, y, x].float(), key)
        weights = scores.softmax(-1)
        on_map = torch.zeros(heads, height * width).index_add_(1, places, weights)
        seen = torch.zeros(height * width, dtype=torch.bool)
        seen[places] = True
        return QueryAttention(
            on_map.view(heads, height, width),
            torch.zeros(heads),
            seen.view(height, width),
            torch.einsum("hn,nhd->hd", weights, value),
            self.out[0, y, x].float(),
            regions,
        )


@dataclass(frozen=True)
class DenseCall:
    """A call of `scaled_dot_product_attention` on (1, heads, tokens, dim).

    Models may write over the tensor that the call `gave`; `out` is a copy of it.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    out: torch.Tensor
    gave: torch.Tensor

    def takes_from(self, before: DenseCall) -> bool:
        """Tells whether this call's values are what another call gave."""
        return self.value.data_ptr() == before.gave.data_ptr() and self.key.shape == before.query.shape

    def probabilities(self, token: int | None = None) -> torch.Tensor:
        """Gives (heads, queries, keys), or of one query (heads, 1, keys)."""
        query = self.query[0] if token is None else self.query[0, :, token : token + 1]
        scores = self.scale * query.float() @ self.key[0].float().mT
        if self.bias is not None:
            bias = self.bias.expand(1, *scores.shape[:1], self.query.shape[2], scores.shape[2])[0]
            bias = bias if token is None else bias[:, token : token + 1]
            scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias.float()
        return scores.softmax(-1)

    def look(self, y: int, x: int, size: tuple[int, int], prefix: int) -> QueryAttention:
        """Says what the query at row `y` and column `x` of a map of `size` sees, with `prefix` tokens before it."""
        token = prefix + y * size[1] + x
        weights = self.probabilities(token)[:, 0]
        return _dense_look(weights, self.value, self.out[0, :, token], size, prefix)


@dataclass(frozen=True)
class AgentCall:
    """Two calls of attention: agents gather from keys, queries gather from agents."""

    gather: DenseCall
    spread: DenseCall

    def look(self, y: int, x: int, size: tuple[int, int], prefix: int) -> QueryAttention:
        """Says what a query sees through the agents: the product of the two calls' probabilities."""
        token = prefix + y * size[1] + x
        of_agents = self.spread.probabilities(token)
        weights = (of_agents @ self.gather.probabilities())[:, 0]
        looked = _dense_look(weights, self.gather.value, self.spread.out[0, :, token], size, prefix)
        return QueryAttention(**{**vars(looked), "agents": of_agents[:, 0]})


def _dense_look(
    weights: torch.Tensor, value: torch.Tensor, expected: torch.Tensor, size: tuple[int, int], prefix: int
) -> QueryAttention:
    heads = len(weights)
    return QueryAttention(
        weights[:, prefix:].reshape(heads, *size),
        weights[:, :prefix].sum(-1),
        torch.ones(size, dtype=torch.bool),
        torch.einsum("hn,hnd->hd", weights, value[0].float()),
        expected.float(),
    )


Call = RangedCall | RoutedCall | DenseCall | AgentCall


@dataclass(frozen=True)
class Recorded:
    """The attention of one block for one image.

    Attributes:
        calls: what was called, in order.
        height: of the block's map in positions, without padding.
        width: of the block's map in positions.
        prefix: tokens before those of the map.
    """

    calls: list[Call]
    height: int
    width: int
    prefix: int = 0

    def look(self, y: int, x: int) -> QueryAttention:
        """Says what the query at row `y` and column `x` of the block's map sees; heads of several calls side by side.

        Raises:
            ValueError: the block attends in no way that has probabilities, or the query is outside the map.
        """
        if not self.calls:
            raise ValueError("This block has no attention whose probabilities could be shown.")
        if not (0 <= y < self.height and 0 <= x < self.width):
            raise ValueError(f"The query is at row {y}, column {x} of a map of {self.height} x {self.width} positions.")
        looks = [self._look(call, y, x) for call in self.calls]
        assert len({one.probabilities.shape[1:] for one in looks}) == 1, "calls of one block on maps of several sizes"
        if len(looks) == 1:
            return looks[0]
        return QueryAttention(
            torch.cat([one.probabilities for one in looks]),
            torch.cat([one.elsewhere for one in looks]),
            torch.stack([one.seen for one in looks]).any(0),
            torch.cat([one.output for one in looks]),
            torch.cat([one.expected for one in looks]),
        )

    def _look(self, call: Call, y: int, x: int) -> QueryAttention:
        if isinstance(call, RangedCall):
            # In a downsampling block of HaloNet every other position is a query.
            steps = [-(-call.key.shape[axis] // call.query.shape[axis]) for axis in (1, 2)]
            return call.look(y // steps[0], x // steps[1])
        if isinstance(call, RoutedCall):
            return call.look(y, x)
        return call.look(y, x, (self.height, self.width), self.prefix)


@dataclass
class _Recorder(TorchFunctionMode):
    """Notes the calls of attention while `active`."""

    active: bool = False
    calls: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.active:
            return out
        operator = func._opname if getattr(func, "namespace", None) == "attnzoo" else ""
        if operator == "ranged_attention_2d":
            assert args[6] is None, "additional keys have no place on the map"
            query, key, value, rpb, row_terms, col_terms = _detached(args[:6])
            rows, cols, scale = args[8:11]
            own = out[0].clone()
            self.calls.append(RangedCall(query, key, value, rpb, row_terms, col_terms, rows, cols, scale, own))
        elif operator == "routed_attention_2d":
            query, key, value, routes = _detached(args[:4])
            self.calls.append(RoutedCall(query, key, value, routes, args[4], args[5], out[0].clone()))
        elif func is F.scaled_dot_product_attention:
            self.calls.append(_dense_call(out, *args, **(kwargs or {})))
        return out


def _detached(tensors: Sequence[torch.Tensor | None]) -> list[Any]:
    return [None if one is None else one.detach() for one in tensors]


def _dense_call(
    out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> DenseCall:
    assert not is_causal
    assert not enable_gqa
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    query, key, value, bias = _detached((query, key, value, attn_mask))
    return DenseCall(query, key, value, bias, factor, out.clone(), out)


def find_block(backbone: Any, stage: int, block: int) -> nn.Module:
    """Finds a block of a backbone.

    Args:
        backbone: a backbone, or the `FeatureMaps` around one.
        stage: its index; negative ones count from the end.
        block: its index in the stage; negative ones count from the end.

    Raises:
        ValueError: there is no such stage or block; the message says how many there are.
    """
    body = getattr(backbone, "body", backbone)
    stages = getattr(body, "stages", None)
    if stages is None:
        raise ValueError(f"{type(body).__name__} has no `stages` to look into.")
    if not -len(stages) <= stage < len(stages):
        raise ValueError(f"There is no stage {stage}; {type(body).__name__} has {len(stages)}, 0 to {len(stages) - 1}.")
    blocks = stages[stage].blocks
    if not -len(blocks) <= block < len(blocks):
        raise ValueError(
            f"There is no block {block} in stage {stage}, which has {len(blocks)}: 0 to {len(blocks) - 1}."
        )
    return blocks[block]


def record_attention(backbone: Any, image: torch.Tensor, stage: int, block: int) -> Recorded:
    """Runs a backbone and notes how a block of it attends.

    Args:
        backbone: a backbone, or the `FeatureMaps` around one; it is put into evaluation mode.
        image: (1, C, H, W), normalised.
        stage: the block's stage.
        block: its index in the stage.

    Raises:
        ValueError: there is no such block, or more than one image is given.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"One image (1, channels, height, width) is looked at, not {tuple(image.shape)}.")
    module = find_block(backbone, stage, block)
    body = getattr(backbone, "body", backbone)
    recorder = _Recorder()
    sizes: list[tuple[int, int]] = []

    def begin(_: nn.Module, args: tuple[Any, ...]) -> None:
        recorder.active = True
        sizes.append(_map_size(body, args))

    def end(*_: Any) -> None:
        recorder.active = False

    handles = [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        with torch.no_grad(), recorder:
            backbone.eval()(image)
    finally:
        for handle in handles:
            handle.remove()
    (height, width), *_ = sizes
    return Recorded(_joined(recorder.calls), height, width, getattr(body, "num_prefix_tokens", 0))


def _map_size(body: Any, args: tuple[Any, ...]) -> tuple[int, int]:
    """Finds height and width of the map that a block is given."""
    x, *where = args
    if x.ndim == 3:  # tokens, and the size of their map
        height, width = where[-1]
        return int(height), int(width)
    sizes = x.shape[2:] if body.map_layout == "NCHW" else x.shape[1:3]
    return int(sizes[0]), int(sizes[1])


def _joined(calls: list[Any]) -> list[Call]:
    """Joins the two calls of agent attention: the values of the second are what the first gave."""
    joined: list[Call] = []
    for call in calls:
        before = joined[-1] if joined else None
        if isinstance(call, DenseCall) and isinstance(before, DenseCall) and call.takes_from(before):
            joined[-1] = AgentCall(before, call)
        else:
            joined.append(call)
    return joined
