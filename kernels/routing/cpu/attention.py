"""Routed attention in plain PyTorch: a few regions at a time, with the keys that they see gathered for just them.

Gathered keys and values exist for one chunk at a time, scores for a few rows of it, so memory beyond operands and
results does not grow with the batch or with `topk`. Where regions are tiny and see much of the map, gathering costs
more than it saves; there whole rows of the map see all of it under a mask. Products and softmax are in float32 (float64
for float64 operands), whatever the operands' dtype. On a CPU every sum has a fixed order, so results repeat bit for
bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from ...dispatch import compute_dtype
from ..geometry import Grid, by_region, times_seen
from ..operands import Operands

# Bytes of gathered keys (or of the mask) in a chunk, a thread: enough that calls of torch cost little beside it.
_CHUNK_BYTES = 1 << 20


def forward(operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the output and the logarithms of the softmax's denominators.

    Args:
        operands: Query, key and value with any strides; routes in range.
        grid: Rows and columns of regions.
        scale: Factor of the scores.

    Returns:
        (B, H, W, heads, dim_v) in the query's dtype, and (B, H, W, heads) in float32 or float64, both contiguous.
    """
    query, key, value, routes = operands
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    lse = query.new_empty(query.shape[:4], dtype=compute_dtype(query.dtype))
    key, value = _with_even_runs(key), _with_even_runs(value)
    for part in _parts(query, key, value, routes, grid):
        outputs, logs = _attend(part.queries(query), part.keys(key), part.keys(value), part.bias, scale)
        part.put(out, outputs)
        part.put(lse[..., None], logs[..., None])
    return out, lse


def backward(
    grad_out: torch.Tensor, operands: Operands, out: torch.Tensor, lse: torch.Tensor, grid: Grid, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    """Computes the gradients of query, key and value from that of the output.

    Scores are computed again, a chunk at a time.

    Returns:
        The gradients in the order of `Operands`, each contiguous and in its operand's dtype; None for the routes.
    """
    query, key, value, routes = operands
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    grad_key, grad_value = (
        torch.zeros(one.shape, dtype=compute_dtype(one.dtype), device=one.device) for one in (key, value)
    )
    key, value = _with_even_runs(key), _with_even_runs(value)
    for part in _parts(query, key, value, routes, grid):
        upstream, outputs, logs = (part.queries(one) for one in (grad_out, out, lse[..., None]))
        gradients = _differentiate(
            upstream,
            part.queries(query),
            part.keys(key),
            part.keys(value),
            outputs,
            logs.squeeze(-1),
            part.bias,
            scale,
        )
        part.put(grad_query, gradients[0])
        part.add(grad_key, gradients[1])
        part.add(grad_value, gradients[2])
    return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None


# torch's own attention for CPUs, which returns logarithms and takes them back, and stores a few rows of scores only.
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class _Routed:
    """A block of regions of an image, each with the keys of its routes.

    Operands are (regions, heads, tokens, dim) in the compute dtype, as they are in `_Masked` with one for regions.

    Args:
        image: index of the image.
        block: first and one past the last region row, first and one past the last region column.
        slots: (regions, topk * rows of a region) indices of the seen keys' runs: the tokens of one row of a region.
        grid: rows and columns of regions.
    """

    bias = None

    def __init__(self, image: int, block: tuple[int, int, int, int], slots: torch.Tensor, grid: Grid) -> None:
        self._image, self._block, self._slots, self._grid = image, block, slots, grid

    def queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """This part of the queries, or of what has their shape in all but dim."""
        block = self._regions(tensor)
        tokens = block.permute(0, 1, 3, 4, 2, 5).flatten(0, 1).flatten(1, 2)
        return _computable(tokens.transpose(1, 2))

    def keys(self, tensor: torch.Tensor) -> torch.Tensor:
        """The keys or values that these queries see."""
        runs = _runs(tensor[self._image], self._grid)
        seen = runs.index_select(0, self._slots.flatten())
        seen = seen.reshape(self._slots.shape[0], -1, *tensor.shape[3:])
        return _computable(seen.transpose(1, 2))

    def put(self, tensor: torch.Tensor, results: torch.Tensor) -> None:
        """Writes what belongs to the queries to their places in a map."""
        block = self._regions(tensor)
        shape = (*block.shape[:2], block.shape[3], block.shape[4], block.shape[2], block.shape[5])
        block.copy_(results.transpose(1, 2).reshape(shape).permute(0, 1, 4, 2, 3, 5))

    def add(self, tensor: torch.Tensor, gradients: torch.Tensor) -> None:
        """Adds the gradients of what `keys` gave to those of a contiguous map."""
        runs = _runs(tensor[self._image], self._grid)
        runs.index_add_(0, self._slots.flatten(), gradients.transpose(1, 2).reshape(-1, *runs.shape[1:]))

    def _regions(self, tensor: torch.Tensor) -> torch.Tensor:
        """Views the block of a map: (region rows, region columns, heads, rows, columns, dim)."""
        top, bottom, left, right = self._block
        return by_region(tensor, self._grid)[self._image, top:bottom, left:right]


class _Masked:
    """Whole rows of an image, which see all of it; a mask keeps to the routes. Methods as in `_Routed`.

    Args:
        image: index of the image.
        rows: first and one past the last row.
        bias: (1, 1, queries, keys) logarithms of how often each query sees each key.
    """

    def __init__(self, image: int, rows: slice, bias: torch.Tensor) -> None:
        self._image, self._rows, self.bias = image, rows, bias

    def queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `_Routed`."""
        return _computable(_heads_first(tensor[self._image, self._rows]))

    def keys(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `_Routed`."""
        return _computable(_heads_first(tensor[self._image]))

    def put(self, tensor: torch.Tensor, results: torch.Tensor) -> None:
        """See `_Routed`."""
        tensor[self._image, self._rows].copy_(results[0].transpose(0, 1).unflatten(0, (-1, tensor.shape[2])))

    def add(self, tensor: torch.Tensor, gradients: torch.Tensor) -> None:
        """See `_Routed`."""
        tensor[self._image] += gradients[0].transpose(0, 1).view(tensor.shape[1:])


def _parts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, routes: torch.Tensor, grid: Grid
) -> Iterator[_Routed | _Masked]:
    """Cuts attention into parts."""
    tokens = (query.shape[1] // grid[0]) * (query.shape[2] // grid[1])
    token_bytes = query.shape[3] * max(key.shape[4], value.shape[4]) * compute_dtype(query.dtype).itemsize
    most = _chunk_bytes(query.device)
    if prefers_mask(grid[0] * grid[1], routes.shape[2], tokens):
        return _masked_parts(query, routes, grid, most)
    return _routed_parts(query, routes, grid, max(1, most // (routes.shape[2] * tokens * token_bytes)))


def prefers_mask(regions: int, topk: int, tokens: int) -> bool:
    """Whether regions of `tokens` tokens are so small, and see so much, that a mask is faster than gathering.

    Measured with 4 tokens a region: 12 times as many keys as needed cost more than gathering the few, 3 times do not.
    """
    return regions <= topk * (1 + 16 / tokens)


def _routed_parts(query: torch.Tensor, routes: torch.Tensor, grid: Grid, most: int) -> Iterator[_Routed | _Masked]:
    """Goes over blocks of at most `most` regions: whole region rows, or parts of one."""
    batch, height = query.shape[:2]
    (rows, cols), size = grid, height // grid[0]
    if routes.device.type != "cpu":
        routes = routes.clamp(0, rows * cols - 1)
    steps = torch.arange(size, device=routes.device) * cols
    row_part, col_part = (max(1, most // cols), cols) if most >= cols else (1, most)
    for image in range(batch):
        first = (routes[image] // cols * (size * cols) + routes[image] % cols)[..., None]
        slots = (first + steps).view(rows, cols, -1)
        for top in range(0, rows, row_part):
            for left in range(0, cols, col_part):
                block = (top, min(top + row_part, rows), left, min(left + col_part, cols))
                yield _Routed(image, block, slots[block[0] : block[1], block[2] : block[3]].flatten(0, 1), grid)


def _masked_parts(query: torch.Tensor, routes: torch.Tensor, grid: Grid, most: int) -> Iterator[_Routed | _Masked]:
    """Goes over rows of the map, as many at a time as have a mask of at most `most` bytes."""
    batch, height, width = query.shape[:3]
    dtype = compute_dtype(query.dtype)
    regions = grid[0] * grid[1]
    row = torch.arange(height, device=routes.device) // (height // grid[0])
    col = torch.arange(width, device=routes.device) // (width // grid[1])
    region = row[:, None] * grid[1] + col
    part = min(height, max(1, most // (width * width * height * dtype.itemsize)))
    visible = times_seen(routes.clamp(0, regions - 1), regions).to(dtype).log_()
    for image in range(batch):
        bias = visible[image].index_select(1, region.flatten())
        for top in range(0, height, part):
            rows = slice(top, min(top + part, height))
            yield _Masked(image, rows, bias.index_select(0, region[rows].flatten())[None, None])


def _runs(image: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Views an image as (runs, columns of a region, heads, dim): a run is one row of one region."""
    size = image.shape[1] // grid[1]
    return image.view(image.shape[0] * grid[1], size, *image.shape[2:])


def _with_even_runs(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself if `_runs` can view its images, else a copy."""
    return tensor if tensor.stride(1) == tensor.shape[2] * tensor.stride(2) else tensor.contiguous()


def _heads_first(rows: torch.Tensor) -> torch.Tensor:
    """Views rows of an image, (rows, W, heads, dim), as (1, heads, tokens, dim)."""
    return rows.flatten(0, 1).transpose(0, 1)[None]


def _computable(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the compute dtype with a contiguous last dimension, which torch's attention for CPUs relies on."""
    tensor = tensor.to(compute_dtype(tensor.dtype))
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _chunk_bytes(device: torch.device) -> int:
    return _CHUNK_BYTES * torch.get_num_threads() if device.type == "cpu" else 64 * _CHUNK_BYTES


def _has_flash(device: torch.device) -> bool:
    return device.type == "cpu"


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of (matrices, heads, tokens, dim) operands: output and logarithms of the denominators."""
    if _has_flash(queries.device):
        dim_v = values.shape[3]
        padded = _same_dims(queries, keys, values)
        out, lse = _FLASH(*padded, attn_mask=bias, scale=scale)
        return out[..., :dim_v], lse
    scores = _scores(queries, keys, bias, scale)
    return scores.softmax(-1) @ values, scores.logsumexp(-1)


def _differentiate(
    upstream: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `_attend`'s queries, keys and values."""
    if _has_flash(queries.device):
        dim, dim_v = queries.shape[3], values.shape[3]
        queries, keys, values = _same_dims(queries, keys, values)
        _, upstream, out = _same_dims(queries, upstream, out)
        gradients = _FLASH_BACKWARD(upstream, queries, keys, values, out, lse, 0.0, False, attn_mask=bias, scale=scale)
        return gradients[0][..., :dim], gradients[1][..., :dim], gradients[2][..., :dim_v]
    weights = (_scores(queries, keys, bias, scale) - lse[..., None]).exp()
    grad_values = weights.mT @ upstream
    delta = (upstream * out).sum(-1, keepdim=True)
    grad_scores = weights * (upstream @ values.mT - delta) * scale
    return grad_scores @ keys, grad_scores.mT @ queries, grad_values


def _scores(queries: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor | None, scale: float) -> torch.Tensor:
    scores = queries @ keys.mT * scale
    return scores if bias is None else scores + bias


def _same_dims(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Pads the last dimension with zeros, which change no product, until it is the same."""
    dim = max(one.shape[-1] for one in tensors)
    return [one if one.shape[-1] == dim else functional.pad(one, (0, dim - one.shape[-1])) for one in tensors]
