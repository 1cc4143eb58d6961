"""Argument checks of routed attention. They raise a ValueError that states what was given and what is allowed."""

from __future__ import annotations

import torch

from ..checks import Pair, check_dtype, check_map, check_matches_query, check_not_empty, check_tensors, to_scale
from ..dispatch import cast_for_autocast
from .geometry import Grid
from .operands import Operands


def prepare(operands: Operands, grid: Grid, scale: float | None) -> tuple[Operands, Grid, float]:
    """Casts operands for autocast, checks all arguments, and replaces a scale of None by dim ** -0.5."""
    check_tensors(operands._asdict())
    operands = cast_for_autocast(operands, ("query", "key", "value"))
    query = operands.query
    check_query(query, grid)
    check_key(operands.key, query)
    _check_like_query("value", operands.value, query, "the query's shape except for dim", dims=4)
    _check_routes(operands.routes, query, grid)
    return operands, grid, to_scale(scale, query.shape[4])


def to_grid(num_regions: Pair[int]) -> Grid:
    """Converts the argument `num_regions` to (rows, columns)."""
    pair = tuple(num_regions) if isinstance(num_regions, (tuple, list)) else (num_regions, num_regions)
    if len(pair) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in pair):
        raise ValueError(
            f"num_regions must be a positive int or a pair (rows, columns) of positive ints, got {num_regions!r}."
        )
    return pair


def check_query(query: torch.Tensor, grid: Grid) -> None:
    """Checks that the query is a map that the grid divides, of a dtype that is computed with."""
    check_tensors({"query": query})
    check_map("query", query)
    for axis, size, regions in zip(("height", "width"), query.shape[1:3], grid, strict=True):
        if size == 0 or size % regions:
            raise ValueError(
                f"The {axis} must be a positive multiple of its number of regions, got {axis} {size} and {regions} "
                "regions. Pad the map or choose another num_regions."
            )
    check_not_empty({"The query's heads": query.shape[3], "The query's dim": query.shape[4]})
    check_dtype(query)


def check_key(key: torch.Tensor, query: torch.Tensor) -> None:
    """Checks that the key has the query's shape, dtype and device."""
    _check_like_query("key", key, query, "the query's shape", dims=5)


def check_topk(topk: int, grid: Grid) -> None:
    """Checks the number of regions that each region is routed to."""
    regions = grid[0] * grid[1]
    if not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= regions:
        raise ValueError(f"topk must be an int between 1 and the number of regions, {regions}, got {topk!r}.")


def _check_like_query(name: str, tensor: torch.Tensor, query: torch.Tensor, expected: str, dims: int) -> None:
    """Checks that a tensor has the query's first `dims` sizes, its dtype and its device."""
    check_tensors({name: tensor})
    if tensor.ndim != 5 or tensor.shape[:dims] != query.shape[:dims]:
        raise ValueError(f"{name} must have {expected}, {tuple(query.shape)}, got {tuple(tensor.shape)}.")
    check_not_empty({f"The {name}'s dim": tensor.shape[4]})
    check_matches_query(name, tensor, query)


def _check_routes(routes: torch.Tensor, query: torch.Tensor, grid: Grid) -> None:
    """Checks the routes' shape, dtype and device. Their values are checked by `geometry.check_routes`."""
    expected = (query.shape[0], grid[0] * grid[1])
    if routes.ndim != 3 or tuple(routes.shape[:2]) != expected or routes.shape[2] == 0:
        raise ValueError(
            f"routes must have the shape (batch, regions, topk) = ({expected[0]}, {expected[1]}, topk >= 1), "
            f"got {tuple(routes.shape)}."
        )
    if routes.dtype != torch.int64 or routes.device != query.device:
        raise ValueError(
            f"routes must be int64 on the query's device, {query.device}, got {routes.dtype} on {routes.device}."
        )
