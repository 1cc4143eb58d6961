"""Rules that determine which keys a query sees along one axis, and the tables that they produce.

Every local attention of the zoo consists of two independent rules, one per axis. A rule converts an axis of
`num_queries` queries and `num_keys` keys to tables over slots. A slot is an index in an order of the axis in which the
keys of each query are adjacent: with dilation, positions are ordered by their residue first (0, d, 2d, ..., 1, d + 1,
...); without dilation, slot and position are equal. The query in slot i sees the key slots start[i] to end[i] - 1, and
the index of its bias for a key is `key slot - origin[i]`. Key slots outside [0, num_keys) are zero keys and values that
take part in the softmax (HaloNet's padding without a mask); a rule that masks them clips its ranges.

Start and end never decrease, so the queries that see a key form a range as well: `AxisTables.seen_from` and `seen_to`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Union

import torch


@dataclass(frozen=True)
class Neighborhood:
    """Generalized neighborhood attention along one axis, with NATTEN's definition.

    A position belongs to the dilation group `position % dilation`. Inside its group, each position sees `kernel_size`
    positions around the leader of its stride group, shifted inwards at the borders and not shrunk; if causal, those
    that the leader sees, up to the position itself.

    Attributes:
        kernel_size: Number of keys that a query sees.
        stride: Number of queries that share one window.
        dilation: Distance between neighboring keys of a window.
        is_causal: Whether a query sees only keys up to its own position.

    Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), "Dilated Neighborhood Attention
    Transformer" (2022), "Generalized Neighborhood Attention" (2025).
    """

    kernel_size: int
    stride: int = 1
    dilation: int = 1
    is_causal: bool = False

    @property
    def bias_length(self) -> int:
        """Length of a bias table along this axis: the number of relative offsets between a query and its keys."""
        return 2 * self.kernel_size - 1


@dataclass(frozen=True)
class Blocks:
    """Blocks of queries that see their own block of keys and a halo around it. Plain windows have a halo of 0.

    The first and the last block are cut where they extend beyond the map.

    Attributes:
        block_size: Number of keys of a block.
        halo: Number of keys by which a window extends beyond its block, and at most beyond the map, on each side.
        query_stride: Distance between neighboring queries, in keys. With a stride > 1 the query grid is coarser than
            the key grid, as in HaloNet's downsampling blocks.
        clip: Whether keys outside the map are hidden. Otherwise they are zeros that take part in the softmax.
        shift: Position of the first block border. Keys before it are the end of a block that begins outside the map.

    Source: Vaswani et al., "Scaling Local Self-Attention for Parameter Efficient Visual Backbones" (CVPR 2021),
    section 3; shifted windows: Liu et al., "Swin Transformer" (ICCV 2021), section 3.2.
    """

    block_size: int
    halo: int = 0
    query_stride: int = 1
    clip: bool = False
    shift: int = 0

    @property
    def bias_length(self) -> int:
        """Length of a bias table along this axis: the number of relative offsets between a query and its keys."""
        return self.block_size + 2 * self.halo + self.queries_per_block - 1

    @property
    def queries_per_block(self) -> int:
        """Number of queries in a block that is not cut."""
        return self.block_size // self.query_stride

    @property
    def first_block(self) -> int:
        """Position at which the first block begins: 0, or negative if the first block is cut."""
        return self.shift - self.block_size if self.shift else 0


_MAX_HALO = 1 << 15
"""Each position of a halo outside of the map is a key of zeros, for every query."""

AxisRule = Union[Neighborhood, Blocks]  # noqa: UP007 - evaluated at import, where 3.10's `|` on classes hides the names


class Geometry(NamedTuple):
    """Rules that determine which keys each query of a map sees.

    Attributes:
        rows: Determines which rows of keys a row of queries sees.
        cols: Determines which columns of keys a column of queries sees.
    """

    rows: AxisRule
    cols: AxisRule


def encode_rule(rule: AxisRule) -> list[int]:
    """Converts a rule to a list of integers, which an operator's schema can carry."""
    if isinstance(rule, Neighborhood):
        return [0, rule.kernel_size, rule.stride, rule.dilation, int(rule.is_causal)]
    return [1, rule.block_size, rule.halo, rule.query_stride, int(rule.clip), rule.shift]


def decode_rule(encoded: Sequence[int]) -> AxisRule:
    """Converts the result of `encode_rule` back to a rule."""
    kind, first, second, third, flag, *rest = encoded
    return (Neighborhood, Blocks)[kind](first, second, third, bool(flag), *rest)


@dataclass(frozen=True, eq=False)
class AxisTables:
    """Tables of one axis. All tensors are int64.

    Attributes:
        query_order: (num_queries,) position of the query in each slot.
        key_order: (num_keys,) position of the key in each slot.
        start: (num_queries,) first key slot that the query in each slot sees.
        end: (num_queries,) end (exclusive) of the key slots that the query in each slot sees.
        origin: (num_queries,) key slot with bias index 0.
        seen_from: (num_keys,) first query slot that sees the key in each slot.
        seen_to: (num_keys,) end (exclusive) of the query slots that see the key in each slot.
        groups: First query slot and number of queries of each group (dilation group or block), inside of which windows
            overlap smoothly. A tile of queries should not extend over several groups.
        bias_length: Number of bias indices.
        slots: Start and end (exclusive) of the key slots that are on the map or in a query's range.
    """

    query_order: torch.Tensor
    key_order: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    origin: torch.Tensor
    seen_from: torch.Tensor
    seen_to: torch.Tensor
    groups: tuple[tuple[int, int], ...]
    bias_length: int
    slots: tuple[int, int]

    @property
    def num_queries(self) -> int:
        """Number of queries on the axis."""
        return self.query_order.numel()

    @property
    def num_keys(self) -> int:
        """Number of keys on the axis."""
        return self.key_order.numel()


def build_axis_tables(
    rule: AxisRule, num_queries: int, num_keys: int, device: torch.device | None = None
) -> AxisTables:
    """Builds the tables of one axis. There is no cache, because fake tensors, which tracers create, must not be cached.

    Args:
        rule: Rule that determines which keys a query sees.
        num_queries: Number of queries on the axis.
        num_keys: Number of keys on the axis.
        device: Device of the tables, the CPU by default.

    Raises:
        ValueError: If the rule does not fit the lengths.
    """
    ranges = axis_ranges(rule, num_queries, num_keys)
    device = device or torch.device("cpu")  # not the default device, which a user may have set
    start, end = (torch.tensor(table, dtype=torch.int64, device=device) for table in (ranges.start, ranges.end))
    keys = torch.arange(num_keys, device=device)
    return AxisTables(
        query_order=torch.tensor(ranges.query_order, dtype=torch.int64, device=device),
        key_order=torch.tensor(ranges.key_order, dtype=torch.int64, device=device),
        start=start,
        end=end,
        origin=torch.tensor(ranges.origin, dtype=torch.int64, device=device),
        seen_from=torch.searchsorted(end, keys, right=True),
        seen_to=torch.searchsorted(start, keys, right=True),
        groups=ranges.groups,
        bias_length=rule.bias_length,
        slots=(min(0, *ranges.start), max(num_keys, *ranges.end)),
    )


class AxisRanges(NamedTuple):
    """Tables of one axis as Python integers. The fields are those of `AxisTables`."""

    query_order: tuple[int, ...]
    key_order: tuple[int, ...]
    start: tuple[int, ...]
    end: tuple[int, ...]
    origin: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=1024)
def axis_ranges(rule: AxisRule, num_queries: int, num_keys: int) -> AxisRanges:
    """Returns the tables of one axis as Python integers. Arguments and errors are those of `build_axis_tables`."""
    check_rule(rule, num_queries, num_keys)
    return _neighborhood(rule, num_queries) if isinstance(rule, Neighborhood) else _blocks(rule, num_queries, num_keys)


def check_rule(rule: AxisRule, num_queries: int, num_keys: int, axis: str = "axis") -> None:
    """Checks that a rule can be applied to an axis of these lengths; `axis` is its name in the error.

    Raises:
        ValueError: If the rule is invalid or does not fit the lengths.
    """
    if isinstance(rule, Neighborhood):
        _check_neighborhood(rule, num_queries, num_keys, axis)
    else:
        _check_blocks(rule, num_queries, num_keys, axis)


def _check_neighborhood(rule: Neighborhood, num_queries: int, num_keys: int, axis: str) -> None:
    if rule.kernel_size < 2:
        raise ValueError(f"kernel_size must be >= 2, got {rule.kernel_size} for the {axis}.")
    if not 1 <= rule.stride <= rule.kernel_size:
        raise ValueError(
            f"stride must be between 1 and kernel_size = {rule.kernel_size}, got {rule.stride} for the {axis}."
        )
    if rule.dilation < 1:
        raise ValueError(f"dilation must be >= 1, got {rule.dilation} for the {axis}.")
    if num_queries != num_keys:
        raise ValueError(
            f"Neighborhood attention needs as many queries as keys, got {num_queries} queries and {num_keys} keys for "
            f"the {axis}."
        )
    if rule.kernel_size * rule.dilation > num_keys:
        raise ValueError(
            "kernel_size * dilation must not exceed the map, "
            f"got {rule.kernel_size} * {rule.dilation} > {num_keys} for the {axis}. "
            "Pad the map, or choose a smaller kernel_size or dilation."
        )


def _check_blocks(rule: Blocks, num_queries: int, num_keys: int, axis: str) -> None:
    if rule.block_size < 1:
        raise ValueError(f"block_size must be >= 1, got {rule.block_size} for the {axis}.")
    if not 0 <= rule.halo <= _MAX_HALO:
        raise ValueError(f"halo_size must be between 0 and {_MAX_HALO}, got {rule.halo} for the {axis}.")
    if rule.query_stride < 1 or rule.block_size % rule.query_stride:
        raise ValueError(
            f"query_stride must be >= 1 and divide block_size = {rule.block_size}, got {rule.query_stride} for the "
            f"{axis}."
        )
    if not 0 <= rule.shift < rule.block_size or rule.shift % rule.query_stride:
        raise ValueError(
            f"shift must be a multiple of query_stride = {rule.query_stride} that is >= 0 and < block_size = "
            f"{rule.block_size}, got {rule.shift} for the {axis}."
        )
    if num_keys < 1 or num_queries != -(-num_keys // rule.query_stride):
        raise ValueError(
            f"Blocks need one query per {rule.query_stride} keys, rounded up, got {num_queries} queries and "
            f"{num_keys} keys for the {axis}."
        )


def _neighborhood(rule: Neighborhood, length: int) -> AxisRanges:
    order, start, end, groups = [], [], [], []
    for residue in range(rule.dilation):
        positions = range(residue, length, rule.dilation)
        first, size = len(order), len(positions)
        for index in range(size):
            stride_start = index // rule.stride * rule.stride
            if rule.is_causal:
                leader = min(stride_start + rule.stride - 1, size - 1)
                low, high = max(leader - rule.kernel_size + 1, 0), index + 1
            else:
                leader = min(stride_start + rule.stride // 2, size - 1)
                low = min(max(leader - rule.kernel_size // 2, 0), size - rule.kernel_size)
                high = low + rule.kernel_size
            start.append(first + low)
            end.append(first + high)
        order.extend(positions)
        groups.append((first, size))
    origin = tuple(slot - (rule.kernel_size - 1) for slot in range(length))
    return AxisRanges(tuple(order), tuple(order), tuple(start), tuple(end), origin, tuple(groups))


def _blocks(rule: Blocks, num_queries: int, num_keys: int) -> AxisRanges:
    per_block, halo = rule.queries_per_block, 0 if rule.clip else rule.halo
    start, end, origin, groups = [], [], [], []
    for block in range(rule.first_block, num_keys, rule.block_size):
        # The query slots of the block if it were not cut.
        first, last = block // rule.query_stride, block // rule.query_stride + per_block
        slots = range(max(first, 0), min(last, num_queries))
        start += [max(block - rule.halo, -halo)] * len(slots)
        end += [min(block + rule.block_size + rule.halo, num_keys + halo)] * len(slots)
        # Strided queries are one step apart in the bias table, as in HaloNet's relative embeddings.
        origin += [block - rule.halo + slot - first - (per_block - 1) for slot in slots]
        groups.append((slots.start, len(slots)))
    orders = tuple(range(num_queries)), tuple(range(num_keys))
    return AxisRanges(*orders, tuple(start), tuple(end), tuple(origin), tuple(groups))
