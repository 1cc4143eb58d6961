"""Rules of an axis and the tables that they produce."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from attnzoo.kernels.neighborhood import ranged_attention_2d
from attnzoo.kernels.neighborhood.geometry import Blocks, Neighborhood, build_axis_tables, decode_rule, encode_rule
from support.attention_cases import Axis, axes
from support.kernel_cases import AXIS_WINDOWS

_MAP = torch.randn(2, 9, 8, 4, 6)


@pytest.mark.parametrize("axis", AXIS_WINDOWS, ids=str)
def test_tables_match_the_published_windows(axis):
    rule = Neighborhood(axis["kernel_size"], axis["stride"], axis["dilation"], axis["is_causal"])
    tables = build_axis_tables(rule, axis["length"], axis["length"])
    for slot, position in enumerate(tables.query_order.tolist()):
        visible = tables.key_order[int(tables.start[slot]) : int(tables.end[slot])].tolist()
        assert visible == axis["visible"][position]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Blocks(0), "block_size must be >= 1"),
        (Blocks(4, halo=-1), "halo_size must be between 0 and 32768, got -1"),
        (Blocks(4, query_stride=3), "query_stride must be >= 1 and divide block_size"),
        (Blocks(4, query_stride=2), "one query per 2 keys, .* got 8 queries and 8 keys for the width"),
        (Blocks(4, shift=4), "shift must be a multiple of query_stride = 1 that is >= 0 and < block_size = 4, got 4"),
        (Blocks(4, query_stride=2, shift=1), "shift must be a multiple of query_stride = 2 .* got 1"),
    ],
    ids=str,
)
def test_wrong_blocks_raise(rule, message):
    with pytest.raises(ValueError, match=message):
        ranged_attention_2d(_MAP, _MAP, _MAP, Blocks(3), rule)


@pytest.mark.parametrize(
    "rule", [Neighborhood(5, 2, 3, True), Neighborhood(3), Blocks(8, 3, 2, True, 4), Blocks(7)], ids=str
)
def test_rules_survive_encoding(rule):
    encoded = encode_rule(rule)
    assert all(type(one) is int for one in encoded)
    assert decode_rule(encoded) == rule


@settings(max_examples=100, deadline=None, derandomize=True)
@given(axis=axes())
def test_queries_that_see_a_key_are_a_range(axis: Axis):
    tables = build_axis_tables(axis.rule, axis.queries, axis.keys)
    for table in (tables.start, tables.end):
        assert (table.diff() >= 0).all()
    keys = torch.arange(axis.keys)
    sees = (keys >= tables.start[:, None]) & (keys < tables.end[:, None])
    queries = torch.arange(axis.queries)[:, None]
    assert torch.equal(sees, (queries >= tables.seen_from) & (queries < tables.seen_to))
