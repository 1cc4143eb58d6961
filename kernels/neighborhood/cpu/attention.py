"""Ranged attention in plain PyTorch: tiles of queries against the keys that they see, in chunks that fit in cache.

Only one chunk of tiles exists at a time, so memory beyond operands and results does not grow with the map. Products and
softmax are in float32 (float64 for float64 operands), whatever the operands' dtype. Every sum has a fixed order, so
results are reproducible bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch

from ...cpu_sdpa import has_lost_queries
from ...dispatch import compute_dtype
from ...operators import empty_attention_outputs
from ..geometry import Geometry
from ..operands import Operands
from . import sdpa
from .bias import tile_bias
from .matrices import MatrixTiles
from .sdpa import SdpaTiles
from .tiling import tile_map

# Size of a chunk in bytes per thread: of its scores, or, for torch's fused attention, which keeps scores to itself, of
# its queries, keys, values and outputs. With the operands, the first about fills a core's L2 cache.
_CHUNK_BYTES = 1 << 19
_SDPA_CHUNK_BYTES = 1 << 22


def forward(operands: Operands, geometry: Geometry, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the output and the log-sum-exps.

    Args:
        operands: Tensors of any strides.
        geometry: Rules that determine which keys each query sees.
        scale: Factor of the products of queries and keys.

    Returns:
        (B, Hq, Wq, heads, dim_v) in the query's dtype, and (B, Hq, Wq, heads) in float32 or float64, both contiguous.
    """
    if operands.additional_keys is None and sdpa.is_supported(operands.query, operands.key):
        out, lse = _attend(operands, geometry, scale, use_sdpa=True)
        if not has_lost_queries(out, lse):
            return out, lse
    return _attend(operands, geometry, scale, use_sdpa=False)


def _attend(
    operands: Operands, geometry: Geometry, scale: float, *, use_sdpa: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    call = _TiledCall(operands, geometry, scale, use_sdpa)
    if call.is_one_view:
        return sdpa.attend_map(operands, call.map_bias(), scale)
    out, lse = empty_attention_outputs(operands.query, operands.value)
    for tiles in call.tiles():
        for chunk in tiles.chunks():
            chunk.forward(out, lse)
    return out, lse


def backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    operands: Operands,
    out: torch.Tensor,
    lse: torch.Tensor,
    geometry: Geometry,
    scale: float,
    needed: Collection[str] = Operands._fields,
) -> tuple[torch.Tensor | None, ...]:
    """Computes the gradients of the operands from those of `forward`'s results.

    Recomputes the probabilities, one chunk at a time. PyTorch's fused attention does not compute the gradient of a bias
    table, so it is used if that one is not `needed`.

    Returns:
        The gradients in the order of `Operands`, each contiguous and in its operand's dtype; None for an operand that
        is None, or a bias table whose gradient is not needed.
    """
    needs_rpb = operands.rpb is not None and "rpb" in needed
    has_sdpa_gradients = grad_lse is None and not needs_rpb and operands.additional_keys is None
    use_sdpa = has_sdpa_gradients and sdpa.is_supported(operands.query, operands.key)
    call = _TiledCall(operands, geometry, scale, use_sdpa)
    if call.is_one_view:
        gradients = sdpa.differentiate_map(operands, call.map_bias(), scale, grad_out, out, lse)
        return (*gradients, None, None, None, None, None)
    grads = call.new_gradients(needs_rpb)
    for tiles in call.tiles():
        for chunk in tiles.chunks():
            chunk.backward(grad_out, grad_lse, out, lse, grads)
        tiles.add_bias_gradient(grads)
    return tuple(
        None if one is None or gradient is None else gradient.to(one.dtype)
        for one, gradient in zip(operands, grads, strict=True)
    )


class _TiledCall:
    """The division of one call into groups of equal tiles.

    Args:
        operands: Operands of the call.
        geometry: Rules that determine which keys each query sees.
        scale: Factor of the products of queries and keys.
        use_sdpa: Whether tiles are computed by torch's fused attention.

    Attributes:
        is_one_view: Whether the map is a single tile that torch's fused attention can read and write in place.
    """

    def __init__(self, operands: Operands, geometry: Geometry, scale: float, use_sdpa: bool) -> None:
        query, key = operands.query, operands.key
        self.operands, self.scale, self.use_sdpa = operands, scale, use_sdpa
        self.dtype = compute_dtype(query.dtype)
        copies = query.shape[0] * query.shape[3]
        stores_matrices = not use_sdpa or operands.rpb is not None
        self.tiling = tile_map(*geometry, tuple(query.shape[1:3]), tuple(key.shape[1:3]), copies, stores_matrices)
        is_uniform = query.shape[4] == operands.value.shape[4] and query.dtype == self.dtype
        has_terms = operands.row_terms is not None or operands.col_terms is not None
        self.is_one_view = use_sdpa and self.tiling.is_one and is_uniform and not has_terms

    def map_bias(self) -> torch.Tensor | None:
        """Returns the bias of a map that is one tile, (heads or 1, queries, keys), or None if it has none."""
        return tile_bias(self.operands, self.tiling.rows[0], self.tiling.cols[0], self.dtype)

    def tiles(self) -> Iterator[MatrixTiles | SdpaTiles]:
        """Yields the groups of equal tiles."""
        query = self.operands.query
        heads, channels = query.shape[3], max(query.shape[4], self.operands.value.shape[4])
        tokens = 0 if self.operands.additional_keys is None else self.operands.additional_keys.shape[1]
        threads = torch.get_num_threads() if query.device.type == "cpu" else 64
        layout = SdpaTiles if self.use_sdpa else MatrixTiles
        for row_run in self.tiling.rows:
            for col_run in self.tiling.cols:
                queries, keys = row_run.queries * col_run.queries, row_run.extent * col_run.extent
                numbers = 2 * (queries + keys) * channels if self.use_sdpa else queries * (keys + tokens)
                chunk_bytes = threads * (_SDPA_CHUNK_BYTES if self.use_sdpa else _CHUNK_BYTES)
                max_tiles = max(1, chunk_bytes // (heads * numbers * self.dtype.itemsize))
                yield layout(self.operands, row_run, col_run, self.dtype, self.scale, max_tiles, self.tiling.owns_keys)

    def new_gradients(self, needs_rpb: bool) -> Operands:
        """Allocates the gradients, with zeros where several tiles contribute to the same element."""
        query, key, value, *others = self.operands if needs_rpb else self.operands._replace(rpb=None)
        new = torch.empty if self.tiling.owns_keys else torch.zeros
        return Operands(
            torch.empty_like(query, memory_format=torch.contiguous_format),
            *(new(one.shape, dtype=self.dtype, device=one.device) for one in (key, value)),
            *(None if one is None else torch.zeros(one.shape, dtype=self.dtype, device=one.device) for one in others),
        )
