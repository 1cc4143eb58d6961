"""Operations that `benchmark_kernels.py` and `gpu_check.py` measure, at the sizes of published models' stages.

A new operation needs a function that builds its `Problem`, and an entry in `OPERATIONS` and in `OPERATION_OPTIONS`.
"""

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
from attnzoo.tools.benchmarking.names import OPERATION_OPTIONS, Option

MapSize = tuple[int, int]
"""Height and width."""

NAT_STAGES: dict[MapSize, int] = {(56, 56): 2, (28, 28): 4, (14, 14): 8, (7, 7): 16}
"""Number of heads for each map size of NAT's four stages."""
BIFORMER_STAGES: dict[MapSize, tuple[int, int]] = {(56, 56): (2, 1), (28, 28): (4, 4), (14, 14): (8, 16)}
"""Number of heads and topk for each map size of BiFormer's three stages with routing."""
HALO_STAGES: dict[MapSize, int] = {(32, 32): 8, (16, 16): 8}
"""Number of heads for the map sizes of timm's halonet26t whose attention has stride 1, at 512 and 256 pixels."""

_QKV = ("query", "key", "value")


class Implementation(NamedTuple):
    """One implementation of an operation.

    Attributes:
        compute: The function.
        operands: Names of the operands that it takes, in order.
        compiles: Whether torch.compile is part of it, so that its first call takes tens of seconds.
    """

    compute: Callable[..., torch.Tensor]
    operands: tuple[str, ...] = _QKV
    compiles: bool = False


@dataclass(frozen=True)
class Problem:
    """An operation with operands, and its implementations.

    Attributes:
        settings: What distinguishes the problem from others of the same run, such as size and heads.
        operands: Tensors that get gradients, by name.
        out_grad: Gradient of the output, in the output's shape.
        implementations: Implementations by name. The others are compared with the first one.
        exact: Reference, computed in float64; implementations that take the same operands must agree with it.
    """

    settings: dict[str, Any]
    operands: dict[str, torch.Tensor]
    out_grad: torch.Tensor
    implementations: dict[str, Implementation]
    exact: Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Operation:
    """An operation to measure.

    Attributes:
        build: Builds the problem: `build(size, batch_size, dim, dtype, device, **options)`.
        sizes: Map sizes that are measured by default, largest first.
        options: The operation's own arguments, by name.
        weight: Share of the time that `gpu_check.py` gives to it, relative to the other operations.
    """

    build: Callable[..., Problem]
    sizes: tuple[MapSize, ...]
    options: dict[str, Option]
    weight: float = 1.0


def neighborhood_problem(
    size: MapSize, batch_size: int, dim: int, dtype: torch.dtype, device: torch.device, *, kernel_size: int
) -> Problem:
    """Builds neighborhood attention with a position bias; attnzoo's is also measured without the bias."""
    heads = NAT_STAGES.get(size, 2)
    operands, out_grad = _random_operands((batch_size, *size, heads, dim), dtype, device)
    offsets = 2 * kernel_size - 1
    generator = torch.Generator().manual_seed(1)
    operands["rpb"] = torch.randn(heads, offsets, offsets, generator=generator).to(
        device, torch.float64 if dtype == torch.float64 else torch.float32
    )

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value, rpb=None: neighborhood_attention_2d(
            query, key, value, kernel_size, rpb=rpb, backend=backend
        )

    with_bias = (*_QKV, "rpb")
    implementations = {}
    for backend in _backends(device):
        implementations[f"attnzoo {backend}"] = Implementation(ours(backend), with_bias)
        implementations[f"attnzoo {backend}, no bias"] = Implementation(ours(backend))
    implementations["unfold + einsum"] = Implementation(UnfoldAttention(kernel_size), with_bias)
    implementations["dense SDPA, mask"] = Implementation(DenseAttention(kernel_size), with_bias)
    if device.type == "cuda":
        implementations["FlexAttention"] = Implementation(FlexAttention(kernel_size), with_bias, compiles=True)
    return Problem({"size": _size_name(size), "heads": heads}, operands, out_grad, implementations, ours("torch"))


def routing_problem(
    size: MapSize,
    batch_size: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    num_regions: int,
    topk: int | None = None,
) -> Problem:
    """Builds routed attention over given routes. Choosing the routes is not measured: all implementations share it.

    Args:
        size: Height and width of the map.
        batch_size: Number of images.
        dim: Channels per head.
        dtype: Data type of the operands.
        device: Device of the operands.
        num_regions: Regions along each axis.
        topk: Regions that each region attends to; by default BiFormer's for its map sizes, else 4.
    """
    heads, published = BIFORMER_STAGES.get(size, (2, 4))
    topk = topk or published
    operands, out_grad = _random_operands((batch_size, *size, heads, dim), dtype, device)
    routes = route_regions(operands["query"], operands["key"], num_regions, topk)

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value: routed_attention_2d(query, key, value, routes, num_regions, backend=backend)

    def with_routes(attention: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda query, key, value: attention(query, key, value, routes)

    implementations = {f"attnzoo {backend}": Implementation(ours(backend)) for backend in _backends(device)}
    implementations["official gather"] = Implementation(with_routes(GatherAttention(num_regions)))
    implementations["index_select + SDPA"] = Implementation(with_routes(SelectAttention(num_regions)))
    settings = {"size": _size_name(size), "heads": heads, "topk": topk}
    return Problem(settings, operands, out_grad, implementations, ours("torch"))


def window_problem(
    size: MapSize, batch_size: int, dim: int, dtype: torch.dtype, device: torch.device, *, window_size: int
) -> Problem:
    """Builds window attention without a bias, at the sizes of NAT's stages."""
    heads = NAT_STAGES.get(size, 2)
    operands, out_grad = _random_operands((batch_size, *size, heads, dim), dtype, device)

    def ours(backend: str) -> Callable[..., torch.Tensor]:
        return lambda query, key, value: window_attention_2d(query, key, value, window_size, backend=backend)

    implementations = {f"attnzoo {backend}": Implementation(ours(backend)) for backend in _backends(device)}
    implementations["partition + SDPA"] = Implementation(PartitionAttention(window_size))
    return Problem({"size": _size_name(size), "heads": heads}, operands, out_grad, implementations, ours("torch"))


def halo_problem(
    size: MapSize,
    batch_size: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    block_size: int,
    halo_size: int,
) -> Problem:
    """Builds halo attention with relative embeddings. Queries and keys have 16 channels per head, values `dim`."""
    heads = HALO_STAGES.get(size, 8)
    operands, out_grad = _random_operands((batch_size, *size, heads, dim), dtype, device)
    operands |= {name: operands[name][..., :16].contiguous() for name in ("query", "key")}
    generator = torch.Generator().manual_seed(1)
    embeddings = ("row_embedding", "col_embedding")
    for name in embeddings:
        shape = (2 * (block_size + 2 * halo_size) - 1, operands["query"].shape[-1])
        operands[name] = torch.randn(shape, generator=generator).to(device, dtype)

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

    names = (*_QKV, *embeddings)
    implementations = {f"attnzoo {backend}": Implementation(ours(backend), names) for backend in _backends(device)}
    implementations["unfold + einsum"] = Implementation(UnfoldHaloAttention(block_size, halo_size), names)
    return Problem({"size": _size_name(size), "heads": heads}, operands, out_grad, implementations, ours("torch"))


OPERATIONS: dict[str, Operation] = {
    "neighborhood": Operation(neighborhood_problem, tuple(NAT_STAGES), OPERATION_OPTIONS["neighborhood"], weight=1.5),
    "routing": Operation(routing_problem, tuple(BIFORMER_STAGES), OPERATION_OPTIONS["routing"]),
    "window": Operation(window_problem, tuple(NAT_STAGES), OPERATION_OPTIONS["window"]),
    "halo": Operation(halo_problem, tuple(HALO_STAGES), OPERATION_OPTIONS["halo"]),
}
"""Operations by name."""
assert tuple(OPERATIONS) == tuple(OPERATION_OPTIONS)


def _random_operands(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Returns query, key and value, and a gradient of the output, all of one shape."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator).to(device, dtype) for name in (*_QKV, "out_grad")}
    return {name: tensors[name] for name in _QKV}, tensors["out_grad"]


def _backends(device: torch.device) -> list[str]:
    return ["torch"] if device.type == "cpu" else ["triton", "torch"]


def _size_name(size: MapSize) -> int | str:
    return size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"
