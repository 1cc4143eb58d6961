"""Recorded calls of attention operators, and the attention of a single query in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...deprecated_paths import renamed_names
from ...kernels.neighborhood.geometry import AxisTables, build_axis_tables, decode_rule


@dataclass(frozen=True)
class QueryAttention:
    """Attention probabilities of one query.

    Attributes:
        probs: (heads, height, width) float32, over the positions of the map, including its padding.
        off_map: (heads,) float32, of keys that are not positions of the map: zeros outside of it, class tokens.
        mask: (height, width) bool, True for the keys that the query attends to.
        output: (heads, dim) float32, the values weighted by these probabilities.
        recorded_output: (heads, dim) float32, what the model's own call returned.
        regions: (top, left, bottom, right) of the selected regions in positions, best first.
        agent_probs: (heads, agents) float32, of the agents, if the block uses agent attention.
    """

    probs: torch.Tensor
    off_map: torch.Tensor
    mask: torch.Tensor
    output: torch.Tensor
    recorded_output: torch.Tensor
    regions: tuple[tuple[int, int, int, int], ...] = ()
    agent_probs: torch.Tensor | None = None


@dataclass(frozen=True)
class RangedAttentionCall:
    """A call of neighborhood, window or halo attention, with the operands of its operator, for one image."""

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

    def query_attention(self, y: int, x: int) -> QueryAttention:
        """Computes the attention of the query at row `y` and column `x` of the grid of queries."""
        height, width = self.key.shape[1:3]
        (row_keys, row_index), (col_keys, col_index) = (
            _axis_keys(build_axis_tables(decode_rule(rule), self.query.shape[axis], self.key.shape[axis]), position)
            for rule, axis, position in ((self.rows, 1, y), (self.cols, 2, x))
        )
        heads = self.query.shape[3]
        key, value = (
            _gather(tensor[0].float(), row_keys, col_keys).repeat_interleave(heads // tensor.shape[3], dim=2)
            for tensor in (self.key, self.value)
        )
        probs = self._scores(y, x, key, row_index, col_index).flatten(1).softmax(-1).view(heads, *key.shape[:2])
        on_map = ((row_keys >= 0)[:, None] & (col_keys >= 0)).float()
        positions = row_keys.clamp_min(0)[:, None] * width + col_keys.clamp_min(0)
        map_probs = torch.zeros(heads, height * width)
        map_probs.index_add_(1, positions.flatten(), (probs * on_map).flatten(1))
        mask = torch.zeros(height * width, dtype=torch.bool)
        mask[positions[on_map > 0]] = True
        return QueryAttention(
            probs=map_probs.view(heads, height, width),
            off_map=(probs * (1 - on_map)).sum((1, 2)),
            mask=mask.view(height, width),
            output=torch.einsum("hrc,rchd->hd", probs, value),
            recorded_output=self.out[0, y, x].float(),
        )

    def _scores(
        self, y: int, x: int, key: torch.Tensor, row_index: torch.Tensor, col_index: torch.Tensor
    ) -> torch.Tensor:
        """Computes the biased scores (heads, rows, cols) of a query's keys (rows, cols, heads, dim)."""
        scores = self.scale * torch.einsum("hd,rchd->hrc", self.query[0, y, x].float(), key)
        if self.rpb is not None:
            scores = scores + self.rpb.float()[:, row_index][:, :, col_index]
        if self.row_terms is not None:
            scores = scores + self.row_terms[0, y, x].float()[:, row_index, None]
        if self.col_terms is not None:
            scores = scores + self.col_terms[0, y, x].float()[:, None, col_index]
        return scores


def _axis_keys(tables: AxisTables, position: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the positions of a query's keys along an axis (-1 outside of it), and their indices into a bias."""
    slot = int((tables.query_order == position).nonzero())
    slots = torch.arange(int(tables.start[slot]), int(tables.end[slot]))
    inside = (slots >= 0) & (slots < tables.num_keys)
    positions = torch.where(inside, tables.key_order[slots.clamp(0, tables.num_keys - 1)], -1)
    return positions, slots - tables.origin[slot]


def _gather(tensor: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
    """Gathers rows and columns of (H, W, heads, dim), with zeros outside the map: (rows, cols, heads, dim)."""
    gathered = tensor[rows.clamp_min(0)][:, cols.clamp_min(0)]
    inside = (rows >= 0)[:, None] & (cols >= 0)
    return gathered * inside[..., None, None]


@dataclass(frozen=True)
class RoutedAttentionCall:
    """A call of bi-level routing attention, with the operands of its operator, for one image."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    routes: torch.Tensor
    grid: Sequence[int]
    scale: float
    out: torch.Tensor

    def query_attention(self, y: int, x: int) -> QueryAttention:
        """Computes the attention of the query at row `y` and column `x`."""
        height, width, heads = self.query.shape[1:4]
        rows, cols = self.grid
        region_height, region_width = height // rows, width // cols
        regions = []
        for region in self.routes[0, y // region_height * cols + x // region_width].tolist():
            top, left = region // cols * region_height, region % cols * region_width
            regions.append((top, left, top + region_height, left + region_width))
        positions = torch.cat(
            [
                (torch.arange(top, bottom)[:, None] * width + torch.arange(left, right)).flatten()
                for top, left, bottom, right in regions
            ]
        )
        key, value = (tensor[0].float().flatten(0, 1)[positions] for tensor in (self.key, self.value))
        probs = (self.scale * torch.einsum("hd,nhd->hn", self.query[0, y, x].float(), key)).softmax(-1)
        mask = torch.zeros(height * width, dtype=torch.bool)
        mask[positions] = True
        return QueryAttention(
            probs=torch.zeros(heads, height * width).index_add_(1, positions, probs).view(heads, height, width),
            off_map=torch.zeros(heads),
            mask=mask.view(height, width),
            output=torch.einsum("hn,nhd->hd", probs, value),
            recorded_output=self.out[0, y, x].float(),
            regions=tuple(regions),
        )


@dataclass(frozen=True)
class DenseAttentionCall:
    """A call of `scaled_dot_product_attention` with tensors (1, heads, tokens, dim).

    Models may overwrite `returned`, the tensor that the call returned; `out` is a copy of it.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    out: torch.Tensor
    returned: torch.Tensor

    def uses_output_of(self, earlier: DenseAttentionCall) -> bool:
        """Returns whether the values of this call are what an earlier call returned."""
        return self.value.data_ptr() == earlier.returned.data_ptr() and self.key.shape == earlier.query.shape

    def probs(self, token: int | None = None) -> torch.Tensor:
        """Computes the probabilities (heads, queries, keys), or of a single query (heads, 1, keys)."""
        query = self.query[0] if token is None else self.query[0, :, token : token + 1]
        scores = self.scale * query.float() @ self.key[0].float().mT
        if self.bias is not None:
            bias = self.bias.expand(1, *scores.shape[:1], self.query.shape[2], scores.shape[2])[0]
            bias = bias if token is None else bias[:, token : token + 1]
            scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias.float()
        return scores.softmax(-1)

    def query_attention(self, y: int, x: int, size: tuple[int, int], num_prefix_tokens: int) -> QueryAttention:
        """Computes the attention of the query at row `y` and column `x` of a map.

        Args:
            y: Row of the query.
            x: Column of the query.
            size: Height and width of the map.
            num_prefix_tokens: Number of tokens before those of the map.
        """
        token = num_prefix_tokens + y * size[1] + x
        return _dense_query_attention(
            self.probs(token)[:, 0], self.value, self.out[0, :, token], size, num_prefix_tokens
        )


@dataclass(frozen=True)
class AgentAttentionCall:
    """The two calls of agent attention: agents aggregate from keys, and broadcast to queries."""

    aggregation: DenseAttentionCall
    broadcast: DenseAttentionCall

    def query_attention(self, y: int, x: int, size: tuple[int, int], num_prefix_tokens: int) -> QueryAttention:
        """Computes the attention of a query through the agents: the product of the two calls' probabilities.

        Args:
            y: Row of the query.
            x: Column of the query.
            size: Height and width of the map.
            num_prefix_tokens: Number of tokens before those of the map.
        """
        token = num_prefix_tokens + y * size[1] + x
        agent_probs = self.broadcast.probs(token)
        probs = (agent_probs @ self.aggregation.probs())[:, 0]
        attention = _dense_query_attention(
            probs, self.aggregation.value, self.broadcast.out[0, :, token], size, num_prefix_tokens
        )
        return replace(attention, agent_probs=agent_probs[:, 0])


def _dense_query_attention(
    probs: torch.Tensor,
    value: torch.Tensor,
    recorded_output: torch.Tensor,
    size: tuple[int, int],
    num_prefix_tokens: int,
) -> QueryAttention:
    """Arranges the probabilities (heads, tokens) of a query that attends to all tokens."""
    return QueryAttention(
        probs=probs[:, num_prefix_tokens:].reshape(len(probs), *size),
        off_map=probs[:, :num_prefix_tokens].sum(-1),
        mask=torch.ones(size, dtype=torch.bool),
        output=torch.einsum("hn,hnd->hd", probs, value[0].float()),
        recorded_output=recorded_output.float(),
    )


AttentionCall = RangedAttentionCall | RoutedAttentionCall | DenseAttentionCall | AgentAttentionCall

__getattr__ = renamed_names(
    __name__,
    {
        "AgentCall": "AgentAttentionCall",
        "Call": "AttentionCall",
        "DenseCall": "DenseAttentionCall",
        "RangedCall": "RangedAttentionCall",
        "RoutedCall": "RoutedAttentionCall",
    },
)
