"""Bi-level routing attention of a 2-D map: queries see the keys of the regions that suit their own region best."""

from __future__ import annotations

from typing import Union

import torch

from ..backends import plain_operators_requested, requested_backend
from ..dispatch import autocast_dtype, cast_for_autocast, compute_dtype, without_autocast
from . import flops as _flops  # noqa: F401 - registers formulas
from .exportable import routed_attention_2d_plain
from .geometry import Grid, check_routes, region_means
from .operator import routed_attention_2d_operator
from .reference import routed_attention_2d_reference

Pair = Union[int, tuple[int, int], list[int]]  # noqa: UP007 - evaluated at import


def route_regions(query: torch.Tensor, key: torch.Tensor, num_regions: Pair, topk: int) -> torch.Tensor:
    """Finds, for each region of a map, the regions whose keys suit its queries best.

    A region stands for the mean of its tokens, all heads' channels side by side; two regions suit each other as far as
    the product of the one's mean query and the other's mean key is large. Means and products are in float32 (float64
    for float64 operands), also under autocast. Of equal products the one of the lower region goes first, on every
    device, so equal operands have equal routes; products that differ by rounding alone may change places between
    devices, dtypes and settings such as TF32. No gradient passes.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16.
        key: (B, H, W, heads, dim).
        num_regions: rows and columns of regions: an int, or a pair (rows, columns). They must divide H and W.
        topk: regions to choose for each, at most as many as there are.

    Returns:
        (B, regions, topk) int64 region indices in row-major order, the best first.

    Raises:
        ValueError: if shapes, dtypes, devices or numbers do not fit; the message says what was given.

    Source: Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention" (CVPR 2023), section 3.2,
    equations 3 and 4.
    """
    grid = _grid(num_regions)
    _check_map("query", query, grid)
    _check_like_query("key", key, query, dims=5)
    regions = grid[0] * grid[1]
    if not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= regions:
        raise ValueError(f"topk must be an int from 1 to the number of regions, {regions}, but is {topk!r}.")
    with without_autocast(query.device.type):
        queries, keys = (region_means(one.detach(), grid) for one in (query, key))
        products = queries @ keys.mT
    if plain_operators_requested():
        return products.topk(topk).indices  # exporters know it; the tie rule is then the exported operator's
    return products.sort(dim=-1, descending=True, stable=True).indices[..., :topk].contiguous()


def routed_attention_2d(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    num_regions: Pair,
    scale: float | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Attention in which the queries of a region see the keys of the regions that it is routed to, and no others.

    Gathered keys and values are never stored, so memory grows with the map and not with `topk`. Gradients reach query,
    key and value.

    Args:
        query: (B, H, W, heads, dim), contiguous or strided; float64, float32, float16 or bfloat16.
        key: (B, H, W, heads, dim).
        value: (B, H, W, heads, dim_v).
        routes: (B, regions, topk) int64 from `route_regions`, or any others. A region that is named twice counts
            twice in the softmax. Routes to regions that do not exist are an error on a CPU; on a GPU, where looking
            for them would have to wait for it, they count as routes to the nearest index that exists.
        num_regions: rows and columns of regions, as they were for `route_regions`.
        scale: multiplies the scores; dim ** -0.5 by default. BiFormer's is (heads * dim) ** -0.5.
        backend: "auto", "triton", "torch" or "reference"; see `attnzoo.kernels.use_backend`.

    Returns:
        (B, H, W, heads, dim_v) in the query's dtype.

    Raises:
        ValueError: if shapes, dtypes, devices or numbers do not fit; the message says what was given.

    Source: Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention" (CVPR 2023), section 3.2.
    """
    backend = requested_backend(backend)
    dtype = autocast_dtype(query.device.type)
    if dtype is not None:
        query, key, value = (cast_for_autocast(one, dtype) for one in (query, key, value))
    grid = _grid(num_regions)
    _check_map("query", query, grid)
    _check_like_query("key", key, query, dims=5)
    _check_like_query("value", value, query, dims=4)
    _check_routes(routes, query, grid)
    factor = query.shape[4] ** -0.5 if scale is None else float(scale)
    if backend != "reference" and not plain_operators_requested():
        return routed_attention_2d_operator(query, key, value, routes, grid, factor, backend)
    if routes.device.type != "cpu":
        routes = routes.clamp(0, grid[0] * grid[1] - 1)
    elif backend == "reference" and not torch.compiler.is_compiling():
        check_routes(routes, grid[0] * grid[1])
    attention = routed_attention_2d_reference if backend == "reference" else routed_attention_2d_plain
    dtype = query.dtype
    with without_autocast(query.device.type):
        query, key, value = (one.to(compute_dtype(dtype)) for one in (query, key, value))
        return attention(query, key, value, routes, grid, factor)[0].to(dtype)


def _grid(num_regions: Pair) -> Grid:
    """Makes (rows, columns) of what a user gave."""
    pair = tuple(num_regions) if isinstance(num_regions, (tuple, list)) else (num_regions, num_regions)
    if len(pair) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in pair):
        raise ValueError(
            f"num_regions must be a positive int or a pair of them (rows, columns), but is {num_regions!r}."
        )
    return pair


def _check_map(name: str, tensor: torch.Tensor, grid: Grid) -> None:
    """Raises a ValueError unless a tensor is a map of a dtype that is computed with, and regions divide it."""
    if tensor.ndim != 5:
        raise ValueError(
            f"{name} must have the shape (batch, height, width, heads, dim), but has {tuple(tensor.shape)}."
        )
    for axis, size, regions in zip(("height", "width"), tensor.shape[1:3], grid, strict=True):
        if size == 0 or size % regions:
            raise ValueError(
                f"the {axis} must be a multiple of its number of regions, but {regions} does not divide {size}. "
                "Pad the map, or choose other num_regions."
            )
    for part, size in (("heads", tensor.shape[3]), ("dim", tensor.shape[4])):
        if size == 0:
            raise ValueError(f"{part} must be at least 1, but is 0.")
    if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"operands must be float64, float32, float16 or bfloat16, but are {tensor.dtype}.")


def _check_like_query(name: str, tensor: torch.Tensor, query: torch.Tensor, dims: int) -> None:
    """Raises a ValueError unless a tensor agrees with the query in its first `dims` sizes, dtype and device."""
    if tensor.ndim != 5 or tensor.shape[:dims] != query.shape[:dims]:
        agree = "have the query's shape" if dims == 5 else "agree with the query in all but dim"
        raise ValueError(f"{name} must {agree}, {tuple(query.shape)}, but has {tuple(tensor.shape)}.")
    if tensor.shape[4] == 0:
        raise ValueError(f"the {name}'s dim must be at least 1, but is 0.")
    if tensor.dtype != query.dtype or tensor.device != query.device:
        raise ValueError(
            f"{name} must have the query's dtype and device ({query.dtype}, {query.device}), "
            f"but has {tensor.dtype}, {tensor.device}."
        )


def _check_routes(routes: torch.Tensor, query: torch.Tensor, grid: Grid) -> None:
    """Raises a ValueError unless routes are indices for a map's regions, as far as shape and dtype tell."""
    expected = (query.shape[0], grid[0] * grid[1])
    if routes.ndim != 3 or tuple(routes.shape[:2]) != expected or routes.shape[2] == 0:
        raise ValueError(
            f"routes must have the shape (batch, regions, topk) = ({expected[0]}, {expected[1]}, 1 or more), "
            f"but has {tuple(routes.shape)}."
        )
    if routes.dtype != torch.int64 or routes.device != query.device:
        raise ValueError(
            f"routes must be int64 on the query's device, {query.device}, but are {routes.dtype} on {routes.device}."
        )
