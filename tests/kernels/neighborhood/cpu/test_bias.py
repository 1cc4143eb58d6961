"""Biases of tiles."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood.cpu.bias import add_table_gradient, set_term_gradient, terms_by_key, tile_bias
from attnzoo.kernels.neighborhood.cpu.tiling import Run, tile_runs
from attnzoo.kernels.neighborhood.geometry import Blocks, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands

_RULES = [(Neighborhood(3), 9, 9), (Neighborhood(5), 5, 5), (Neighborhood(3, 2, 2), 11, 11), (Blocks(4, 1, 2), 4, 7)]


def _runs(rule, queries: int, keys: int) -> list[tuple[Run, Run]]:
    rows, cols = tile_runs(rule, rule, (queries, queries), (keys, keys), 4)
    return [(row, col) for row in rows for col in cols]


def _operands(heads: int, rpb: torch.Tensor | None, tokens: int) -> Operands:
    one = torch.zeros(1, 1, 1, heads, 1)
    additional = torch.zeros(1, tokens, heads, 1) if tokens else None
    return Operands(one, one, one, rpb, additional_keys=additional, additional_values=additional)


@pytest.mark.parametrize("tokens", [0, 2])
@pytest.mark.parametrize(("rule", "queries", "keys"), _RULES, ids=str)
def test_bias_of_a_tile_and_its_gradient(rule, queries, keys, tokens):
    rpb = torch.randn(2, rule.bias_length, rule.bias_length)
    for row, col in _runs(rule, queries, keys):
        bias = tile_bias(_operands(2, rpb, tokens), row, col, torch.float32)
        assert bias is not None
        upstream = torch.randn(bias.shape)
        expected = torch.zeros_like(bias)
        grad_expected = torch.zeros_like(rpb)
        for query in range(bias.shape[1]):
            for key in range(row.extent * col.extent):
                row_index = int(row.bias_index[query // col.queries, key // col.extent])
                col_index = int(col.bias_index[query % col.queries, key % col.extent])
                if max(row_index, col_index) == rule.bias_length:
                    expected[:, query, key] = -torch.inf
                    upstream[:, query, key] = 0
                else:
                    expected[:, query, key] = rpb[:, row_index, col_index]
                    grad_expected[:, row_index, col_index] += upstream[:, query, key]
        assert torch.equal(bias, expected)
        gradient = torch.zeros_like(rpb)
        add_table_gradient(gradient, upstream, row, col)
        torch.testing.assert_close(gradient, grad_expected)


def test_no_bias_where_every_query_sees_every_key():
    ((row, col),) = _runs(Neighborhood(5), 5, 5)
    assert tile_bias(_operands(1, None, 0), row, col, torch.float32) is None


@pytest.mark.parametrize(("rule", "queries", "keys"), _RULES, ids=str)
def test_terms_by_key_and_their_gradient(rule, queries, keys):
    for row, _ in _runs(rule, queries, keys):
        terms = torch.randn(1, 1, 1, row.queries, 2, 3, rule.bias_length)
        by_key = terms_by_key(terms, row, 3)
        assert by_key.shape[-1] == row.extent
        upstream, expected = torch.zeros(by_key.shape), torch.zeros_like(terms)
        for query in range(row.queries):
            for key in range(row.extent):
                index = int(row.bias_index[query, key])
                if index < rule.bias_length:
                    assert torch.equal(by_key[:, :, :, query, :, :, key], terms[:, :, :, query, :, :, index])
                    upstream[:, :, :, query, :, :, key] = torch.randn(1, 1, 1, 2, 3)
                    expected[:, :, :, query, :, :, index] = upstream[:, :, :, query, :, :, key]
        assert by_key.isfinite().all()
        gradient = torch.zeros_like(terms)
        set_term_gradient(gradient, upstream, row, 3)
        assert torch.equal(gradient, expected)
