"""What `benchmark_kernels.py` measures: operations at the sizes of models' stages, and the ways to compute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from attnzoo.kernels import (
    halo_attention_2d,
    neighborhood_attention_2d,
    route_regions,
    routed_attention_2d,
    window_attention_2d,
)
from attnzoo.tools.benchmarking.attention_baselines import (
    DenseAttention,
    FlexAttention,
    GatherAttention,
    PartitionAttention,
    SelectAttention,
    UnfoldAttention,
    UnfoldHaloAttention,
)

Map = tuple[int, int]
"""Height and width."""

NAT_STAGES: dict[Map, int] = {(56, 56): 2, (28, 28): 4, (14, 14): 8, (7, 7): 16}
"""Maps of NAT's four stages, with their heads."""
BIFORMER_STAGES: dict[Map, tuple[int, int]] = {(56, 56): (2, 1), (28, 28): (4, 4), (14, 14): (8, 16)}
"""Maps of the three stages of BiFormer that route, with their heads and topk."""
HALO_STAGES: dict[Map, int] = {(32, 32): 8, (16, 16): 8}
"""Maps of the stages of timm's halonet26t that have attention without a stride, at 256x256 and 512x512."""

_QKV = ("query", "key", "value")


class Way(NamedTuple):
    """A way to compute an operation: the function, and the names of the operands that it takes, in order."""

    compute: Callable[..., torch.Tensor]
    operands: tuple[str, ...] = _QKV


@dataclass(frozen=True)
class Problem:
    """An operation on operands, and the ways to compute it.

    Attributes:
        settings: what sets the problem apart from others of a run: size, heads and the like.
        operands: tensors that get gradients, by name.
        upstream: the output's gradient, in the shape of the output.
        ways: by name, the one first that the others are compared with.
        exact: computes what all ways that take the same operands must agree with, in float64.
    """

    settings: dict[str, Any]
    operands: dict[str, torch.Tensor]
    upstream: torch.Tensor
    ways: dict[str, Way]
    exact: Callable[..., torch.Tensor]


def neighborhood_problem(
    size: Map, batch_size: int, dim: int, dtype: torch.dtype, device: torch.device, *, kernel_size: int
) -> Problem:
    """Neighborhood attention with a bias: attnzoo's with and without it, and others' with it."""
    heads = NAT_STAGES.get(size, 2)
    operands, upstream = _draw((batch_size, *size, heads, dim), dtype, device)
    offsets = 2 * kernel_size - 1
    noise = torch.Generator().manual_seed(1)
    operands["rpb"] = torch.randn(heads, offsets, offsets, generator=noise).to(
        device, torch.float64 if dtype == torch.float64 else torch.float32
    )

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value, rpb=None: neighborhood_attention_2d(
            query, key, value, kernel_size, rpb=rpb, backend=backend
        )

    biased = (*_QKV, "rpb")
    ways = {}
    for backend in _backends(device):
        ways[f"attnzoo {backend}"] = Way(ours(backend), biased)
        ways[f"attnzoo {backend}, no bias"] = Way(ours(backend))
    ways["unfold + einsum"] = Way(UnfoldAttention(kernel_size), biased)
    ways["dense SDPA, mask"] = Way(DenseAttention(kernel_size), biased)
    if device.type == "cuda":
        ways["FlexAttention"] = Way(FlexAttention(kernel_size), biased)
    return Problem({"size": _name(size), "heads": heads}, operands, upstream, ways, ours("torch"))


def routing_problem(
    size: Map,
    batch_size: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    num_regions: int,
    topk: int | None = None,
) -> Problem:
    """Routed attention over given routes; finding them is the same for all ways and not part of it.

    Args:
        size: of the map.
        batch_size: images.
        dim: channels of a head.
        dtype: of the operands.
        device: where they lie.
        num_regions: along each axis.
        topk: regions that each sees; BiFormer's at its sizes by default, else 4.
    """
    heads, published = BIFORMER_STAGES.get(size, (2, 4))
    topk = topk or published
    operands, upstream = _draw((batch_size, *size, heads, dim), dtype, device)
    routes = route_regions(operands["query"], operands["key"], num_regions, topk)

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value: routed_attention_2d(query, key, value, routes, num_regions, backend=backend)

    def over_routes(attention: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda query, key, value: attention(query, key, value, routes)

    ways = {f"attnzoo {backend}": Way(ours(backend)) for backend in _backends(device)}
    ways["official gather"] = Way(over_routes(GatherAttention(num_regions)))
    ways["index_select + SDPA"] = Way(over_routes(SelectAttention(num_regions)))
    settings = {"size": _name(size), "heads": heads, "topk": topk}
    return Problem(settings, operands, upstream, ways, ours("torch"))


def window_problem(
    size: Map, batch_size: int, dim: int, dtype: torch.dtype, device: torch.device, *, window_size: int
) -> Problem:
    """Attention in windows without a bias, at the sizes of NAT's stages."""
    heads = NAT_STAGES.get(size, 2)
    operands, upstream = _draw((batch_size, *size, heads, dim), dtype, device)

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value: window_attention_2d(query, key, value, window_size, backend=backend)

    ways = {f"attnzoo {backend}": Way(ours(backend)) for backend in _backends(device)}
    ways["partition + SDPA"] = Way(PartitionAttention(window_size))
    return Problem({"size": _name(size), "heads": heads}, operands, upstream, ways, ours("torch"))


def halo_problem(
    size: Map,
    batch_size: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    block_size: int,
    halo_size: int,
) -> Problem:
    """Halo attention with relative embeddings; queries and keys have 16 channels a head, values `dim`."""
    heads = HALO_STAGES.get(size, 8)
    operands, upstream = _draw((batch_size, *size, heads, dim), dtype, device)
    operands |= {name: operands[name][..., :16].contiguous() for name in ("query", "key")}
    noise = torch.Generator().manual_seed(1)
    embeddings = ("row_embedding", "col_embedding")
    for name in embeddings:
        shape = (2 * (block_size + 2 * halo_size) - 1, operands["query"].shape[-1])
        operands[name] = torch.randn(shape, generator=noise).to(device, dtype)

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value, row_embedding, col_embedding: halo_attention_2d(
            query,
            key,
            value,
            block_size,
            halo_size,
            row_embedding=row_embedding,
            col_embedding=col_embedding,
            backend=backend,
        )

    taken = (*_QKV, *embeddings)
    ways = {f"attnzoo {backend}": Way(ours(backend), taken) for backend in _backends(device)}
    ways["unfold + einsum"] = Way(UnfoldHaloAttention(block_size, halo_size), taken)
    return Problem({"size": _name(size), "heads": heads}, operands, upstream, ways, ours("torch"))


def _draw(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Query, key and value, and an upstream gradient, all of one shape."""
    noise = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(shape, generator=noise).to(device, dtype) for name in (*_QKV, "upstream")}
    return {name: drawn[name] for name in _QKV}, drawn["upstream"]


def _backends(device: torch.device) -> list[str]:
    return ["torch"] if device.type == "cpu" else ["triton", "torch"]


def _name(size: Map) -> int | str:
    return size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"
