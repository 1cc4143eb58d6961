"""Other implementations of the attention operations, for the benchmarks to compare with.

All of them take query, key and value (B, H, W, heads, dim) and return (B, H, W, heads, dim). Those of neighborhood
attention also take a bias rpb (heads, 2 * kernel_size - 1, 2 * kernel_size - 1) or None, and support neither stride nor
dilation. Those of routed attention also take routes (B, regions, topk). Tables that depend on the map size are cached,
as a model would cache them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional

from attnzoo.kernels.neighborhood.geometry import AxisTables, Neighborhood, build_axis_tables

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, "torch.Tensor | None"], torch.Tensor]


class UnfoldAttention:
    """Neighborhood attention that unfolds keys and values into one copy per query: the common plain implementation.

    Rows are unfolded and shifted inwards at the borders before columns are, which copies the large tensor once instead
    of twice. The batch dimensions of the einsums come first and in memory order, so that einsum copies nothing.
    """

    def __init__(self, kernel_size: int) -> None:
        self.kernel_size = kernel_size

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes attention; see the module's docstring for the arguments."""
        rows, cols = (_tables(self.kernel_size, size, query.device) for size in query.shape[1:3])
        keys, values = (self._windows(tensor, rows.start, cols.start) for tensor in (key, value))
        scores = torch.einsum("byxhd,byxhdn->byxhn", query * query.shape[-1] ** -0.5, keys)
        if rpb is not None:
            offsets = torch.arange(self.kernel_size, device=query.device)
            row_index = rows.start[:, None] + offsets - rows.origin[:, None]
            col_index = cols.start[:, None] + offsets - cols.origin[:, None]
            bias = rpb[:, row_index[:, None, :, None], col_index[None, :, None, :]]
            scores = scores + bias.flatten(3).permute(1, 2, 0, 3)
        return torch.einsum("byxhn,byxhdn->byxhd", scores.softmax(-1), values)

    def _windows(self, tensor: torch.Tensor, row_start: torch.Tensor, col_start: torch.Tensor) -> torch.Tensor:
        tensor = tensor.unfold(1, self.kernel_size, 1).index_select(1, row_start)
        return tensor.unfold(2, self.kernel_size, 1).index_select(2, col_start).flatten(-2)


class DenseAttention:
    """Neighborhood attention as dense scaled_dot_product_attention with a mask that contains the bias."""

    def __init__(self, kernel_size: int) -> None:
        self.kernel_size = kernel_size

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes attention; see the module's docstring for the arguments."""
        height, width, heads = query.shape[1:4]
        masked, row_index, col_index = _dense_tables(self.kernel_size, height, width, query.device)
        if rpb is None:
            mask = torch.zeros((), dtype=query.dtype, device=query.device).where(~masked, -torch.inf)
        else:
            bias = rpb.index_select(1, row_index).index_select(2, col_index)
            bias = bias.unflatten(2, (width, width)).unflatten(1, (height, height)).transpose(2, 3)
            mask = bias.reshape(heads, height * width, -1).to(query.dtype).masked_fill(masked, -torch.inf)[None]
        flat = [tensor.flatten(1, 2).transpose(1, 2) for tensor in (query, key, value)]
        out = functional.scaled_dot_product_attention(flat[0], flat[1], flat[2], attn_mask=mask)
        return out.transpose(1, 2).reshape(query.shape)


class FlexAttention:
    """Neighborhood attention as compiled FlexAttention in row-major order. It has a backward pass on GPUs only."""

    def __init__(self, kernel_size: int) -> None:
        from torch.nn.attention import flex_attention

        self.kernel_size = kernel_size
        self._flex = flex_attention
        self._attention = torch.compile(flex_attention.flex_attention, dynamic=False)
        self._block_masks: dict[tuple[int, int], flex_attention.BlockMask] = {}

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rpb: torch.Tensor | None
    ) -> torch.Tensor:
        """Computes attention; see the module's docstring for the arguments."""
        height, width = query.shape[1:3]
        last = self.kernel_size - 1

        def add_bias(score, batch, head, query_index, key_index):
            row = key_index // width - query_index // width + last
            col = key_index % width - query_index % width + last
            assert rpb is not None
            # Masked scores are computed too, and their offsets may be outside of the table.
            return score + rpb[head, row.clamp(0, 2 * last), col.clamp(0, 2 * last)]

        flat = [tensor.flatten(1, 2).transpose(1, 2) for tensor in (query, key, value)]
        out = self._attention(
            *flat, score_mod=None if rpb is None else add_bias, block_mask=self._block_mask(height, width, query.device)
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
    """Routed attention as in BiFormer's official code: gathers the routed keys and values from an expanded view.

    The gathered keys and values are topk times as large as the map. The backward pass of the gather accumulates into a
    buffer of the size of the view, which has all keys once per region.
    """

    def __init__(self, num_regions: int | tuple[int, int], scale: float | None = None) -> None:
        self.grid = num_regions if isinstance(num_regions, tuple) else (num_regions, num_regions)
        self.scale = scale

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, routes: torch.Tensor
    ) -> torch.Tensor:
        """Computes attention; see the module's docstring for the arguments."""
        heads, dim = query.shape[3:]
        queries, keys, values = (_by_region(tensor, self.grid) for tensor in (query, key, value))
        keys, values = self._gather(keys, routes), self._gather(values, routes)
        queries = queries.unflatten(-1, (heads, dim)).flatten(0, 1).transpose(1, 2)
        keys, values = (tensor.flatten(2, 3).flatten(0, 1).unflatten(-1, (heads, -1)) for tensor in (keys, values))
        scale = dim**-0.5 if self.scale is None else self.scale
        scores = (queries * scale) @ keys.permute(0, 2, 3, 1)
        out = scores.softmax(-1) @ values.transpose(1, 2)
        return _to_map(out.transpose(1, 2), query.shape[:3], self.grid)

    def _gather(self, regions: torch.Tensor, routes: torch.Tensor) -> torch.Tensor:
        """Gathers (B, regions, topk, tokens, channels) from (B, regions, tokens, channels)."""
        batch, count, tokens, channels = regions.shape
        index = routes[..., None, None].expand(-1, -1, -1, tokens, channels)
        return regions[:, None].expand(batch, count, count, tokens, channels).gather(2, index)


class SelectAttention:
    """Routed attention by index_select and scaled_dot_product_attention; also stores topk copies of keys and values."""

    def __init__(self, num_regions: int | tuple[int, int], scale: float | None = None) -> None:
        self.grid = num_regions if isinstance(num_regions, tuple) else (num_regions, num_regions)
        self.scale = scale

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, routes: torch.Tensor
    ) -> torch.Tensor:
        """Computes attention; see the module's docstring for the arguments."""
        heads = query.shape[3]
        batch, count, topk = routes.shape
        offsets = torch.arange(batch, device=routes.device)[:, None, None] * count
        index = (routes + offsets).flatten()
        queries, keys, values = (_by_region(tensor, self.grid).flatten(0, 1) for tensor in (query, key, value))
        keys, values = (
            tensor.index_select(0, index).unflatten(0, (-1, topk)).flatten(1, 2) for tensor in (keys, values)
        )
        split = [tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (queries, keys, values)]
        out = functional.scaled_dot_product_attention(split[0], split[1], split[2], scale=self.scale)
        return _to_map(out.transpose(1, 2), query.shape[:3], self.grid)


class PartitionAttention:
    """Window attention as in Swin and DaViT: partition, scaled_dot_product_attention, reverse partition."""

    def __init__(self, window_size: int) -> None:
        self.window_size = window_size

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Computes attention; see the module's docstring for the arguments."""
        height, width = query.shape[1:3]
        grid = (height // self.window_size, width // self.window_size)
        windows = [_by_block(tensor, grid).transpose(1, 2) for tensor in (query, key, value)]
        out = functional.scaled_dot_product_attention(windows[0], windows[1], windows[2])
        return _to_map(out.transpose(1, 2), (query.shape[0], height, width), grid)


class UnfoldHaloAttention:
    """Halo attention as in timm: unfolds keys and values into one copy per block, and multiplies with einsum.

    It also takes relative embeddings of rows and columns, each of shape (2 * window - 1, dim).
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
        """Computes attention; see the module's docstring for the arguments."""
        batch, height, width = query.shape[:3]
        block, window = self.block_size, self.block_size + 2 * self.halo_size
        grid = (height // block, width // block)
        queries = _by_block(query, grid).unflatten(1, (block, block))
        keys, values = (self._windows(tensor, window).flatten(0, 2) for tensor in (key, value))
        scores = torch.einsum("nyxhd,nuvhd->nhyxuv", queries * query.shape[-1] ** -0.5, keys)
        offsets = torch.arange(window, device=query.device) - torch.arange(block, device=query.device)[:, None]
        scores = scores + torch.einsum("nyxhd,yud->nhyxu", queries, row_embedding[offsets + window - 1])[..., None]
        scores = scores + torch.einsum("nyxhd,xvd->nhyxv", queries, col_embedding[offsets + window - 1])[..., None, :]
        probs = scores.flatten(4).softmax(-1).view_as(scores)
        out = torch.einsum("nhyxuv,nuvhd->nyxhd", probs, values)
        return _to_map(out.flatten(1, 2), (batch, height, width), grid)

    def _windows(self, tensor: torch.Tensor, window: int) -> torch.Tensor:
        """Copies the window of every block: (B, rows, columns, window, window, heads, dim)."""
        halo = self.halo_size
        tensor = functional.pad(tensor, (0, 0, 0, 0, halo, halo, halo, halo))
        tensor = tensor.unfold(1, window, self.block_size).unfold(2, window, self.block_size)
        return tensor.permute(0, 1, 2, 5, 6, 3, 4).contiguous()


def _by_region(tensor: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Partitions a map into (B, regions, tokens, channels)."""
    tensor = tensor.flatten(3).unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1)).transpose(2, 3)
    return tensor.flatten(3, 4).flatten(1, 2)


def _by_block(tensor: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Partitions a map into (B * blocks, positions, heads, dim)."""
    tensor = tensor.unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1)).transpose(2, 3)
    return tensor.flatten(3, 4).flatten(0, 2)


def _to_map(tokens: torch.Tensor, size: tuple[int, ...], grid: tuple[int, int]) -> torch.Tensor:
    """Reverses a partition: (B * regions, tokens, heads, dim) to (*size, heads, dim), where size is (B, H, W)."""
    batch, height, width = size
    tokens = tokens.unflatten(1, (height // grid[0], -1)).unflatten(0, (batch, *grid))
    return tokens.transpose(2, 3).reshape(batch, height, width, *tokens.shape[5:])


def _tables(kernel_size: int, size: int, device: torch.device) -> AxisTables:
    return build_axis_tables(Neighborhood(kernel_size), size, size, device)


@functools.lru_cache(maxsize=8)
def _dense_tables(
    kernel_size: int, height: int, width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns a mask (queries, keys) that is True outside of the neighborhoods, and the bias indices of each axis."""
    masked, index = [], []
    for size in (height, width):
        tables = _tables(kernel_size, size, device)
        keys = torch.arange(size, device=device)
        masked.append((keys < tables.start[:, None]) | (keys >= tables.end[:, None]))
        index.append((keys - tables.origin[:, None]).clamp(0, 2 * kernel_size - 2).flatten())
    pairs = masked[0][:, None, :, None] | masked[1][None, :, None, :]
    return pairs.flatten(2, 3).flatten(0, 1), index[0], index[1]
