"""Ranged attention in plain PyTorch: tiles of queries against the keys that they see, in chunks that stay in cache.

Only a chunk of tiles exists at a time, so memory beyond operands and results does not grow with the map. Products and
softmax are in float32 (float64 for float64 operands), whatever the operands' dtype. Every sum has a fixed order, so
results repeat bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...dispatch import compute_dtype
from ..geometry import Geometry
from ..operands import Operands
from . import sdpa as flash
from .chunks import Block, Chunk
from .tiling import tile_map

# Bytes of a chunk, a thread: of its scores or, where torch's fused attention keeps those to itself, of its queries,
# keys, values and output. The first, with what is beside the scores, about fills a core's L2.
_CHUNK_BYTES = 1 << 19
_FLASH_CHUNK_BYTES = 1 << 22


def forward(operands: Operands, geometry: Geometry, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the output and the logarithms of the softmax's denominators.

    Args:
        operands: Tensors of any strides.
        geometry: Which keys each query sees.
        scale: Factor of the scores.

    Returns:
        (B, Hq, Wq, heads, dim_v) in the query's dtype, and (B, Hq, Wq, heads) in float32 or float64, both contiguous.
    """
    query, key, value = operands[:3]
    cut = _Cut(operands, geometry, scale, operands.additional_keys is None and flash.suits(query, key))
    if cut.is_one_view:
        return flash.attend_map(operands, cut.only_bias(), scale)
    out = query.new_empty((*query.shape[:4], value.shape[4]))
    lse = query.new_empty(query.shape[:4], dtype=compute_dtype(query.dtype))
    attend = flash.attend if cut.use_flash else _attend
    for block in cut.blocks():
        for chunk in block.chunks():
            attend(block, chunk, out, lse)
    return out, lse


def backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    operands: Operands,
    out: torch.Tensor,
    lse: torch.Tensor,
    geometry: Geometry,
    scale: float,
) -> tuple[torch.Tensor | None, ...]:
    """Computes the gradients of `operands` from those of `forward`'s results.

    The probabilities are computed again, a chunk at a time.

    Returns:
        The gradients in the order of `Operands`, each contiguous and in its operand's dtype; None for an operand that
        is None.
    """
    is_plain = grad_lse is None and operands.rpb is None and operands.additional_keys is None
    cut = _Cut(operands, geometry, scale, is_plain and flash.suits(operands.query, operands.key))
    if cut.is_one_view:
        gradients = flash.differentiate_map(operands, cut.only_bias(), scale, grad_out, out, lse)
        return (*gradients, None, None, None, None, None)
    grads = cut.new_gradients()
    for block in cut.blocks():
        if cut.use_flash:
            for chunk in block.chunks():
                flash.differentiate(block, chunk, grad_out, out, lse, grads)
            continue
        grad_bias = None if grads.rpb is None else grads.rpb.new_zeros(block.heads, *block.tile_shape)
        for chunk in block.chunks():
            _differentiate(chunk, grad_out, grad_lse, out, grads, grad_bias)
        if grads.rpb is not None and grad_bias is not None:
            block.add_bias(grads.rpb, grad_bias)
    return tuple(
        None if one is None or gradient is None else gradient.to(one.dtype)
        for one, gradient in zip(operands, grads, strict=True)
    )


def _attend(block: Block, chunk: Chunk, out: torch.Tensor, lse: torch.Tensor) -> None:
    """Writes a chunk's part of the results. A function, so that its memory is free, and in cache, for the next one."""
    scores = chunk.scores()
    probabilities = torch.softmax(scores, -1)
    chunk.queries_of(out).copy_(chunk.as_queries(torch.bmm(probabilities, chunk.values)))
    # The largest probability is exp(largest score - lse): cheaper than exponentials of all scores once more.
    denominators = scores.amax(-1) - probabilities.amax(-1).log_()
    chunk.queries_of(lse[..., None]).copy_(chunk.as_queries(denominators[..., None]))


def _differentiate(
    chunk: Chunk,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    out: torch.Tensor,
    grads: Operands,
    grad_bias: torch.Tensor | None,
) -> None:
    """Writes or adds a chunk's part of the gradients; as a tile holds all keys of its queries, this needs no `lse`."""
    grad_scores = _grad_scores(chunk, grad_out, grad_lse, out, (grads.value, grads.additional_values))
    chunk.grad_queries(grad_scores, grads.query, (grads.row_terms, grads.col_terms))
    chunk.add_values(grads.key, chunk.grad_keys(grad_scores), grads.additional_keys)
    if grad_bias is not None:
        grad_bias += grad_scores.view(-1, *grad_bias.shape).sum(0)


def _grad_scores(
    chunk: Chunk,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    out: torch.Tensor,
    grad_values: tuple[torch.Tensor, torch.Tensor | None],
) -> torch.Tensor:
    """Computes the gradient of a chunk's scores, and adds that of its values to the pair of map and tokens."""
    probabilities = torch.softmax(chunk.scores(), -1)
    upstream = chunk.gather(chunk.queries_of(grad_out))
    minus_delta = chunk.gather(chunk.queries_of(out)).mul_(upstream).sum(-1, keepdim=True).neg_()
    if grad_lse is not None:
        minus_delta += chunk.gather(chunk.queries_of(grad_lse[..., None]))
    chunk.add_values(grad_values[0], torch.bmm(probabilities.mT, upstream), grad_values[1])
    return torch.baddbmm(minus_delta, upstream, chunk.values.mT).mul_(probabilities)


class _Cut:
    """How a call is cut into blocks of tiles.

    Args:
        operands: of the call.
        geometry: which keys each query sees.
        scale: multiplies the scores.
        use_flash: whether tiles go through torch's fused attention.
    """

    def __init__(self, operands: Operands, geometry: Geometry, scale: float, use_flash: bool) -> None:
        query, key = operands.query, operands.key
        self.operands, self.scale, self.use_flash = operands, scale, use_flash
        self.dtype = compute_dtype(query.dtype)
        copies = query.shape[0] * query.shape[3]
        has_matrices = not use_flash or operands.rpb is not None
        self.tiling = tile_map(*geometry, tuple(query.shape[1:3]), tuple(key.shape[1:3]), copies, has_matrices)
        # Then operands are read, and results written, as they lie in memory.
        is_alike = query.shape[4] == operands.value.shape[4] and query.dtype == self.dtype
        has_terms = operands.row_terms is not None or operands.col_terms is not None
        self.is_one_view = use_flash and self.tiling.is_one and is_alike and not has_terms

    def only_bias(self) -> torch.Tensor | None:
        """The bias of the one tile that the map is, (heads or 1, queries, keys), or None for none."""
        rows, cols = self.tiling.rows[0], self.tiling.cols[0]
        if self.operands.rpb is None and rows.all_visible and cols.all_visible:
            return None
        return next(self.blocks()).tile_bias

    def blocks(self) -> Iterator[Block]:
        """Goes over the blocks of equal tiles."""
        query = self.operands.query
        heads, channels = query.shape[3], max(query.shape[4], self.operands.value.shape[4])
        tokens = 0 if self.operands.additional_keys is None else self.operands.additional_keys.shape[1]
        threads = torch.get_num_threads() if query.device.type == "cpu" else 64
        for row_run in self.tiling.rows:
            for col_run in self.tiling.cols:
                queries, keys = row_run.queries * col_run.queries, row_run.extent * col_run.extent
                numbers = 2 * (queries + keys) * channels if self.use_flash else queries * (keys + tokens)
                chunk_bytes = threads * (_FLASH_CHUNK_BYTES if self.use_flash else _CHUNK_BYTES)
                most = max(1, chunk_bytes // (heads * numbers * self.dtype.itemsize))
                yield Block(self.operands, row_run, col_run, self.dtype, self.scale, most, self.tiling.owns_keys)

    def new_gradients(self) -> Operands:
        """Memory for the gradients, to be added to or, if no other tile touches the same place, written."""
        query, key, value, *others = self.operands
        new = torch.empty if self.tiling.owns_keys else torch.zeros
        return Operands(
            torch.empty_like(query, memory_format=torch.contiguous_format),
            *(new(one.shape, dtype=self.dtype, device=one.device) for one in (key, value)),
            *(None if one is None else torch.zeros(one.shape, dtype=self.dtype, device=one.device) for one in others),
        )
