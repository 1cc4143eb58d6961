"""Public functions of bi-level routing attention."""

from __future__ import annotations

import torch

from ..backends import exportable_operators_requested
from ..checks import Pair
from ..dispatch import without_autocast
from ..tracing import fx_leaf
from .checks import check_key, check_query, check_topk, prepare, to_grid
from .geometry import region_means
from .operands import Operands
from .operator import routed_attention


@fx_leaf
def route_regions(query: torch.Tensor, key: torch.Tensor, num_regions: Pair[int], topk: int) -> torch.Tensor:
    """Selects, for each region of a map, the `topk` regions whose keys are most relevant to its queries.

    The relevance of a region is the product of its mean key with the mean query of the selecting region; means are over
    the region's tokens, with the channels of all heads concatenated. Means and products are in float32 (float64 for
    float64 operands), also under autocast. Of equal products the lower region comes first, on every device, so equal
    operands have equal routes. Products that differ only by rounding may be ordered differently between devices, dtypes
    and settings such as TF32. No gradient flows through the routes.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16.
        key: (B, H, W, heads, dim).
        num_regions: Number of regions along each axis, an int or a pair (rows, columns). They must divide H and W.
        topk: Number of regions to select for each region, at most the number of regions.

    Returns:
        (B, regions, topk) int64 region indices in row-major order, the most relevant first.

    Raises:
        ValueError: If shapes, dtypes, devices or numbers do not fit.

    Source: Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention" (CVPR 2023), section 3.2,
    equations 3 and 4.
    """
    grid = to_grid(num_regions)
    check_query(query, grid)
    check_key(key, query)
    check_topk(topk, grid)
    with without_autocast(query.device.type):
        queries, keys = (region_means(one.detach(), grid) for one in (query, key))
        products = queries @ keys.mT
    if exportable_operators_requested():
        return products.topk(topk).indices  # exporters support topk; equal products are then in the runtime's order
    return products.sort(dim=-1, descending=True, stable=True).indices[..., :topk].contiguous()


@fx_leaf
def routed_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    num_regions: Pair[int],
    scale: float | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Computes attention in which the queries of a region see only the keys of the regions that it is routed to.

    Gathered keys and values are never stored, so memory grows with the map and not with `topk`. Query, key and value
    receive gradients.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16.
        key: (B, H, W, heads, dim).
        value: (B, H, W, heads, dim_v).
        routes: (B, regions, topk) int64 region indices, from `route_regions` or elsewhere. A region that occurs twice
            counts twice in the softmax. Indices out of range are an error on a CPU. On a GPU, where checking them would
            have to wait for the device, they are clamped to the range.
        num_regions: Number of regions along each axis, as for `route_regions`.
        scale: Factor of the scores, dim ** -0.5 by default. BiFormer's is (heads * dim) ** -0.5.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        (B, H, W, heads, dim_v) in the query's dtype.

    Raises:
        ValueError: If shapes, dtypes, devices or numbers do not fit.

    Source: Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention" (CVPR 2023), section 3.2.
    """
    operands = Operands(query, key, value, routes)
    return routed_attention(*prepare(operands, to_grid(num_regions), scale), backend=backend)[0]
