"""Other ways to compute attention, for `benchmark_kernels.py` to compare with.

Each takes query, key and value (B, H, W, heads, dim) and returns (B, H, W, heads, dim). Those for neighborhood
attention take rpb (heads, 2 * kernel_size - 1, 2 * kernel_size - 1) or None as well; stride, dilation and scale are the
defaults. Those for windows and for blocks with a halo are made for their sizes. Those for routed attention take routes
(B, regions, topk) and are made for a number of regions. Tables that depend on the map's size are made once and kept, as
a model would keep them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional

from attnzoo.kernels.neighborhood.geometry import AxisTables, Neighborhood, axis_tables

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, "torch.Tensor | None"], torch.Tensor]


class UnfoldAttention:
    """Unfolds keys and values into one copy for every query, then multiplies: what people write.

    Rows are unfolded and moved inwards at the borders before columns are, which copies the large tensor once, not
    twice. The products are einsums whose batch dimensions stand in front, in memory order, so they copy nothing more.
    """

    def __init__(self, kernel_size: int) -> None:
        self.kernel_size = kernel_size

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes attention; see the module."""
        rows, cols = (_tables(self.kernel_size, size, query.device) for size in query.shape[1:3])
        keys, values = (self._windows(one, rows.start, cols.start) for one in (key, value))
        scores = torch.einsum("byxhd,byxhdn->byxhn", query * query.shape[-1] ** -0.5, keys)
        if rpb is not None:
            seen = torch.arange(self.kernel_size, device=query.device)
            row_index = rows.start[:, None] + seen - rows.origin[:, None]
            col_index = cols.start[:, None] + seen - cols.origin[:, None]
            bias = rpb[:, row_index[:, None, :, None], col_index[None, :, None, :]]
            scores = scores + bias.flatten(3).permute(1, 2, 0, 3)
        return torch.einsum("byxhn,byxhdn->byxhd", scores.softmax(-1), values)

    def _windows(self, tensor: torch.Tensor, row_start: torch.Tensor, col_start: torch.Tensor) -> torch.Tensor:
        tensor = tensor.unfold(1, self.kernel_size, 1).index_select(1, row_start)
        return tensor.unfold(2, self.kernel_size, 1).index_select(2, col_start).flatten(-2)


class DenseAttention:
    """torch's attention of all positions to all, under a mask that carries the bias."""

    def __init__(self, kernel_size: int) -> None:
        self.kernel_size = kernel_size

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes attention; see the module."""
        height, width, heads = query.shape[1:4]
        hidden, row_index, col_index = _dense_tables(self.kernel_size, height, width, query.device)
        if rpb is None:
            mask = torch.zeros((), dtype=query.dtype, device=query.device).where(~hidden, -torch.inf)
        else:
            bias = rpb.index_select(1, row_index).index_select(2, col_index)
            bias = bias.unflatten(2, (width, width)).unflatten(1, (height, height)).transpose(2, 3)
            mask = bias.reshape(heads, height * width, -1).to(query.dtype).masked_fill(hidden, -torch.inf)[None]
        flat = [one.flatten(1, 2).transpose(1, 2) for one in (query, key, value)]
        out = functional.scaled_dot_product_attention(flat[0], flat[1], flat[2], attn_mask=mask)
        return out.transpose(1, 2).reshape(query.shape)


class FlexAttention:
    """torch's compiled FlexAttention in row-major order, the bias looked up for every score. Trains on GPUs only."""

    def __init__(self, kernel_size: int) -> None:
        from torch.nn.attention import flex_attention

        self.kernel_size = kernel_size
        self._flex = flex_attention
        self._attention = torch.compile(flex_attention.flex_attention, dynamic=False)
        self._block_masks: dict[tuple[int, int], flex_attention.BlockMask] = {}

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes attention; see the module."""
        height, width = query.shape[1:3]
        last = self.kernel_size - 1

        def biased(score, batch, head, query_index, key_index):
            row = key_index // width - query_index // width + last
            col = key_index % width - query_index % width + last
            assert rpb is not None
            # Scores that the mask hides are computed too; their offsets may lie outside the table.
            return score + rpb[head, row.clamp(0, 2 * last), col.clamp(0, 2 * last)]

        flat = [one.flatten(1, 2).transpose(1, 2) for one in (query, key, value)]
        out = self._attention(
            *flat, score_mod=None if rpb is None else biased, block_mask=self._block_mask(height, width, query.device)
        )
        return out.transpose(1, 2).reshape(query.shape)

    def _block_mask(self, height: int, width: int, device: torch.device):
        if (height, width) not in self._block_masks:
            row_start, col_start = (_tables(self.kernel_size, size, device).start for size in (height, width))

            def visible(batch, head, query_index, key_index):
                row = key_index // width - row_start[query_index // width]
                col = key_index % width - col_start[query_index % width]
                return (row >= 0) & (row < self.kernel_size) & (col >= 0) & (col < self.kernel_size)

            self._block_masks[height, width] = self._flex.create_block_mask(
                visible, None, None, height * width, height * width, device=device.type
            )
        return self._block_masks[height, width]


class GatherAttention:
    """Gathers the keys and values of every region's routes out of an expanded view: how BiFormer was published.

    Gathered keys and values are stored, topk copies of them. The backward pass of the gather adds into a buffer of the
    size of the view: regions times all keys.
    """

    def __init__(self, num_regions: int | tuple[int, int], scale: float | None = None) -> None:
        self.grid = num_regions if isinstance(num_regions, tuple) else (num_regions, num_regions)
        self.scale = scale

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, routes: torch.Tensor
    ) -> torch.Tensor:
        """Computes attention; see the module."""
        heads, dim = query.shape[3:]
        queries, keys, values = (_by_region(one, self.grid) for one in (query, key, value))
        keys, values = self._gather(keys, routes), self._gather(values, routes)
        queries = queries.unflatten(-1, (heads, dim)).flatten(0, 1).transpose(1, 2)
        keys, values = (one.flatten(2, 3).flatten(0, 1).unflatten(-1, (heads, -1)) for one in (keys, values))
        scale = dim**-0.5 if self.scale is None else self.scale
        scores = (queries * scale) @ keys.permute(0, 2, 3, 1)
        out = scores.softmax(-1) @ values.transpose(1, 2)
        return _to_map(out.transpose(1, 2), query.shape[:3], self.grid)

    def _gather(self, regions: torch.Tensor, routes: torch.Tensor) -> torch.Tensor:
        """Turns (B, regions, tokens, channels) into (B, regions, topk, tokens, channels)."""
        batch, count, tokens, channels = regions.shape
        index = routes[..., None, None].expand(-1, -1, -1, tokens, channels)
        return regions[:, None].expand(batch, count, count, tokens, channels).gather(2, index)


class SelectAttention:
    """Gathers with index_select, then torch's own attention: the plainest good way. Stores topk copies as well."""

    def __init__(self, num_regions: int | tuple[int, int], scale: float | None = None) -> None:
        self.grid = num_regions if isinstance(num_regions, tuple) else (num_regions, num_regions)
        self.scale = scale

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, routes: torch.Tensor
    ) -> torch.Tensor:
        """Computes attention; see the module."""
        heads = query.shape[3]
        batch, count, topk = routes.shape
        first = torch.arange(batch, device=routes.device)[:, None, None] * count
        index = (routes + first).flatten()
        queries, keys, values = (_by_region(one, self.grid).flatten(0, 1) for one in (query, key, value))
        keys, values = (one.index_select(0, index).unflatten(0, (-1, topk)).flatten(1, 2) for one in (keys, values))
        split = [one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (queries, keys, values)]
        out = functional.scaled_dot_product_attention(split[0], split[1], split[2], scale=self.scale)
        return _to_map(out.transpose(1, 2), query.shape[:3], self.grid)


class PartitionAttention:
    """Attention in windows as Swin and DaViT have it: a copy of the map by windows, torch's attention, a copy back."""

    def __init__(self, window_size: int) -> None:
        self.window_size = window_size

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Computes attention; see the module."""
        height, width = query.shape[1:3]
        grid = (height // self.window_size, width // self.window_size)
        windows = [_by_block(one, grid).transpose(1, 2) for one in (query, key, value)]
        out = functional.scaled_dot_product_attention(windows[0], windows[1], windows[2])
        return _to_map(out.transpose(1, 2), (query.shape[0], height, width), grid)


class UnfoldHaloAttention:
    """Halo attention as timm has it: keys and values unfolded into a copy for every block, logits stored, then einsum.

    It takes the relative embeddings of rows and columns, (2 * window - 1, dim), behind query, key and value.
    """

    def __init__(self, block_size: int, halo_size: int) -> None:
        self.block_size, self.halo_size = block_size, halo_size

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        row_embedding: torch.Tensor,
        col_embedding: torch.Tensor,
    ) -> torch.Tensor:
        """Computes attention; see the module."""
        batch, height, width = query.shape[:3]
        block, window = self.block_size, self.block_size + 2 * self.halo_size
        grid = (height // block, width // block)
        queries = _by_block(query, grid).unflatten(1, (block, block))
        keys, values = (self._windows(one, window).flatten(0, 2) for one in (key, value))
        scores = torch.einsum("nyxhd,nuvhd->nhyxuv", queries * query.shape[-1] ** -0.5, keys)
        place = torch.arange(window, device=query.device) - torch.arange(block, device=query.device)[:, None]
        scores = scores + torch.einsum("nyxhd,yud->nhyxu", queries, row_embedding[place + window - 1])[..., None]
        scores = scores + torch.einsum("nyxhd,xvd->nhyxv", queries, col_embedding[place + window - 1])[..., None, :]
        weights = scores.flatten(4).softmax(-1).view_as(scores)
        out = torch.einsum("nhyxuv,nuvhd->nyxhd", weights, values)
        return _to_map(out.flatten(1, 2), (batch, height, width), grid)

    def _windows(self, tensor: torch.Tensor, window: int) -> torch.Tensor:
        """Copies every block's window: (B, rows, columns, window, window, heads, dim)."""
        halo = self.halo_size
        tensor = functional.pad(tensor, (0, 0, 0, 0, halo, halo, halo, halo))
        tensor = tensor.unfold(1, window, self.block_size).unfold(2, window, self.block_size)
        return tensor.permute(0, 1, 2, 5, 6, 3, 4).contiguous()


def _by_region(tensor: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Copies a map into (B, regions, tokens, channels)."""
    tensor = tensor.flatten(3).unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1)).transpose(2, 3)
    return tensor.flatten(3, 4).flatten(1, 2)


def _by_block(tensor: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Copies a map into (B * blocks, positions, heads, dim)."""
    tensor = tensor.unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1)).transpose(2, 3)
    return tensor.flatten(3, 4).flatten(0, 2)


def _to_map(tokens: torch.Tensor, size: tuple[int, ...], grid: tuple[int, int]) -> torch.Tensor:
    """Copies (B * regions, tokens, heads, dim) back into a map of `size`, (B, H, W)."""
    batch, height, width = size
    tokens = tokens.unflatten(1, (height // grid[0], -1)).unflatten(0, (batch, *grid))
    return tokens.transpose(2, 3).reshape(batch, height, width, *tokens.shape[5:])


def _tables(kernel_size: int, size: int, device: torch.device) -> AxisTables:
    return axis_tables(Neighborhood(kernel_size), size, size, device)


@functools.lru_cache(maxsize=8)
def _dense_tables(
    kernel_size: int, height: int, width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which pairs of positions do not see each other (queries, keys), and each axis's bias index of every pair."""
    hidden, index = [], []
    for size in (height, width):
        tables = _tables(kernel_size, size, device)
        keys = torch.arange(size, device=device)
        hidden.append((keys < tables.start[:, None]) | (keys >= tables.end[:, None]))
        index.append((keys - tables.origin[:, None]).clamp(0, 2 * kernel_size - 2).flatten())
    pairs = hidden[0][:, None, :, None] | hidden[1][None, :, None, :]
    return pairs.flatten(2, 3).flatten(0, 1), index[0], index[1]
