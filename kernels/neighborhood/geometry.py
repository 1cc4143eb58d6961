"""Which keys a query sees along one axis, as tables that never decrease.

Every local attention of the zoo is two independent rules, one an axis. A rule turns an axis of `num_queries` queries
and `num_keys` keys into tables over slots. A slot is a place in an order of the axis in which the keys of any query
stand side by side: with dilation, positions are ordered by their residue first (0, d, 2d, ..., 1, d + 1, ...); without,
slot and position are the same. The query in slot i sees the key slots start[i] to end[i] - 1, and a learned bias is
looked up at `key slot - origin[i]`. Key slots outside [0, num_keys) are keys and values of zeros that take part in
the softmax (HaloNet's unmasked padding); a rule that wants them masked clips its ranges.

As start and end never decrease, the queries that see a key are a range as well: `AxisTables.seen_from` and `seen_to`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Union

import torch


@dataclass(frozen=True)
class Neighborhood:
    """Generalized neighborhood attention along one axis, as NATTEN defines it.

    A position is in dilation group `position % dilation`. Inside its group, at place p of n, it sees `kernel_size`
    places: those around the leader of its stride group, moved inwards at the borders and never shrunk; if causal, those
    up to itself that the leader sees.

    Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), "Dilated Neighborhood Attention
    Transformer" (2022), "Generalized Neighborhood Attention" (2025).
    """

    kernel_size: int
    stride: int = 1
    dilation: int = 1
    is_causal: bool = False

    @property
    def bias_length(self) -> int:
        """Number of relative offsets that a query can have to its keys: the length of a bias table along this axis."""
        return 2 * self.kernel_size - 1


@dataclass(frozen=True)
class Blocks:
    """Blocks of queries that see their own block of keys and a halo around it; plain windows have a halo of 0.

    With `query_stride` above 1 the queries lie on a grid that is coarser by that factor, as in HaloNet's downsampling
    blocks, so a block holds `block_size // query_stride` of them.

    Blocks begin at positions `shift`, `shift + block_size` and so on; what lies before `shift` is the end of a block
    that begins outside the map. The first and the last block are cut where the map does not hold them whole. A window
    reaches at most `halo` keys beyond the map; those take part as zeros unless `clip`.

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
        """Number of relative offsets that a query can have to its keys: the length of a bias table along this axis."""
        return self.block_size + 2 * self.halo + self.queries_per_block - 1

    @property
    def queries_per_block(self) -> int:
        """Number of queries of a block that is not cut."""
        return self.block_size // self.query_stride

    @property
    def first_block(self) -> int:
        """Position at which the first block begins: 0, or outside the map."""
        return self.shift - self.block_size if self.shift else 0


AxisRule = Union[Neighborhood, Blocks]  # noqa: UP007 - evaluated at import, where 3.10's `|` on classes hides the names


class Geometry(NamedTuple):
    """Which keys each query sees: one rule per axis.

    Attributes:
        rows: Which rows of keys a row of queries sees.
        cols: Which columns of keys a column of queries sees.
    """

    rows: AxisRule
    cols: AxisRule


def encode_rule(rule: AxisRule) -> list[int]:
    """Writes a rule as the list of integers that an operator's schema can carry."""
    if isinstance(rule, Neighborhood):
        return [0, rule.kernel_size, rule.stride, rule.dilation, int(rule.is_causal)]
    return [1, rule.block_size, rule.halo, rule.query_stride, int(rule.clip), rule.shift]


def decode_rule(encoded: Sequence[int]) -> AxisRule:
    """Reads what `encode_rule` wrote."""
    kind, first, second, third, flag, *rest = encoded
    return (Neighborhood, Blocks)[kind](first, second, third, bool(flag), *rest)


@dataclass(frozen=True, eq=False)
class AxisTables:
    """The tables of one axis. All tensors are int64.

    Attributes:
        query_order: (num_queries,) the position of the query in each slot.
        key_order: (num_keys,) the position of the key in each slot.
        start: (num_queries,) the first key slot that the query in each slot sees.
        end: (num_queries,) one past the last.
        origin: (num_queries,) the key slot whose bias index is 0.
        seen_from: (num_keys,) the first query slot that sees the key in each slot.
        seen_to: (num_keys,) one past the last.
        groups: first query slot and number of queries of each run of slots whose windows overlap smoothly (the dilation
            groups, or the blocks). A tile of queries should not reach from one run into the next.
        bias_length: number of bias indices.
        slots: the first key slot, and one past the last, that is on the map or that a query sees.
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
        """Length of the query axis."""
        return self.query_order.numel()

    @property
    def num_keys(self) -> int:
        """Length of the key axis."""
        return self.key_order.numel()


@functools.lru_cache(maxsize=1024)
def axis_tables(rule: AxisRule, num_queries: int, num_keys: int, device: torch.device | None = None) -> AxisTables:
    """Gives the tables of one axis, always the same object for the same arguments.

    Only for code that runs on real tensors: what a tracer's fake tensors are made of must not be kept.

    Args:
        rule: which keys a query sees.
        num_queries: length of the query axis.
        num_keys: length of the key axis.
        device: where the tensors shall lie; the CPU by default.

    Raises:
        ValueError: if the rule does not fit the lengths.
    """
    if device is not None and device.type != "cpu":
        return _moved(axis_tables(rule, num_queries, num_keys), device)
    return build_axis_tables(rule, num_queries, num_keys)


def build_axis_tables(
    rule: AxisRule, num_queries: int, num_keys: int, device: torch.device | None = None
) -> AxisTables:
    """Builds the tables of one axis anew; arguments and errors as in `axis_tables`."""
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
    """The tables of one axis as plain integers; meanings as in `AxisTables`."""

    query_order: tuple[int, ...]
    key_order: tuple[int, ...]
    start: tuple[int, ...]
    end: tuple[int, ...]
    origin: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=1024)
def axis_ranges(rule: AxisRule, num_queries: int, num_keys: int) -> AxisRanges:
    """Builds the tables of one axis as plain integers; arguments and errors as in `axis_tables`."""
    check_rule(rule, num_queries, num_keys)
    return _neighborhood(rule, num_queries) if isinstance(rule, Neighborhood) else _blocks(rule, num_queries, num_keys)


def check_rule(rule: AxisRule, num_queries: int, num_keys: int, axis: str = "axis") -> None:
    """Raises a ValueError if `rule` cannot be applied to an axis of these lengths; `axis` names it in the message."""
    if isinstance(rule, Neighborhood):
        if rule.kernel_size < 2:
            raise ValueError(f"kernel_size must be at least 2, but is {rule.kernel_size} along the {axis}.")
        if not 1 <= rule.stride <= rule.kernel_size:
            raise ValueError(
                f"stride must be between 1 and kernel_size = {rule.kernel_size}, but is {rule.stride} along the {axis}."
            )
        if rule.dilation < 1:
            raise ValueError(f"dilation must be at least 1, but is {rule.dilation} along the {axis}.")
        if num_queries != num_keys:
            raise ValueError(
                "neighborhood attention needs as many queries as keys, "
                f"but the {axis} has {num_queries} and {num_keys}."
            )
        if rule.kernel_size * rule.dilation > num_keys:
            raise ValueError(
                "kernel_size * dilation must not exceed the map, "
                f"but {rule.kernel_size} * {rule.dilation} > {num_keys} along the {axis}: "
                "pad the map, or choose a smaller kernel or dilation."
            )
        return
    if rule.block_size < 1 or rule.halo < 0 or rule.query_stride < 1 or rule.block_size % rule.query_stride:
        raise ValueError(
            "block_size must be at least 1, halo at least 0 and query_stride a divisor of block_size, but they are "
            f"{rule.block_size}, {rule.halo} and {rule.query_stride} along the {axis}."
        )
    if not 0 <= rule.shift < rule.block_size or rule.shift % rule.query_stride:
        raise ValueError(
            f"shift must be a multiple of query_stride = {rule.query_stride} from 0 to below "
            f"block_size = {rule.block_size}, but is {rule.shift} along the {axis}."
        )
    if num_keys < 1 or num_queries != -(-num_keys // rule.query_stride):
        raise ValueError(
            f"blocks need one query for every {rule.query_stride} keys, the last of which may be fewer, "
            f"but the {axis} has {num_keys} keys and {num_queries} queries."
        )


def _neighborhood(rule: Neighborhood, length: int) -> AxisRanges:
    order, start, end, groups = [], [], [], []
    for residue in range(rule.dilation):
        positions = range(residue, length, rule.dilation)
        first, size = len(order), len(positions)
        for place in range(size):
            stride_start = place // rule.stride * rule.stride
            if rule.is_causal:
                leader = min(stride_start + rule.stride - 1, size - 1)
                low, high = max(leader - rule.kernel_size + 1, 0), place + 1
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
        # Slots that the block would hold were it not cut.
        first, last = block // rule.query_stride, block // rule.query_stride + per_block
        slots = range(max(first, 0), min(last, num_queries))
        start += [max(block - rule.halo, -halo)] * len(slots)
        end += [min(block + rule.block_size + rule.halo, num_keys + halo)] * len(slots)
        # Strided queries step by 1 in the bias table, as HaloNet's relative embeddings do.
        origin += [block - rule.halo + slot - first - (per_block - 1) for slot in slots]
        groups.append((slots.start, len(slots)))
    orders = tuple(range(num_queries)), tuple(range(num_keys))
    return AxisRanges(*orders, tuple(start), tuple(end), tuple(origin), tuple(groups))


def _moved(tables: AxisTables, device: torch.device) -> AxisTables:
    moved = {name: value.to(device) for name, value in vars(tables).items() if isinstance(value, torch.Tensor)}
    return replace(tables, **moved)
