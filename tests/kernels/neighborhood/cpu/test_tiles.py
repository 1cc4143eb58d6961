"""Tiles as views of a map."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood.cpu.matrices import MatrixTiles
from attnzoo.kernels.neighborhood.cpu.tiling import tile_map
from attnzoo.kernels.neighborhood.geometry import AxisRule, Blocks, Neighborhood
from attnzoo.kernels.neighborhood.operands import Operands

_RULES = [
    (Neighborhood(3), 11, 11),
    (Neighborhood(3, 2, 2), 13, 13),
    (Blocks(4), 9, 9),
    (Blocks(4, halo=1, query_stride=2), 5, 9),
]


def _groups(rule: AxisRule, queries: int, keys: int, max_tiles: int) -> list[MatrixTiles]:
    operands = Operands(torch.zeros(2, queries, queries, 1, 1), *torch.zeros(2, 2, keys, keys, 1, 1))
    tiling = tile_map(rule, rule, (queries, queries), (keys, keys), 2, True)
    return [
        MatrixTiles(operands, row_run, col_run, torch.float32, 1.0, max_tiles, tiling.owns_keys)
        for row_run in tiling.rows
        for col_run in tiling.cols
    ]


@pytest.mark.parametrize("max_tiles", [1, 3, 100])
@pytest.mark.parametrize(("rule", "queries", "keys"), _RULES, ids=str)
def test_chunks_contain_every_query_once(rule, queries, keys, max_tiles):
    counts = torch.zeros(2, queries, queries, 1, 1)
    for tiles in _groups(rule, queries, keys, max_tiles):
        for chunk in tiles.chunks():
            assert 1 <= chunk.count <= max_tiles
            chunk.query_tiles(counts).add_(1)
    assert (counts == 1).all()


@pytest.mark.parametrize(("rule", "queries", "keys"), _RULES, ids=str)
def test_keys_of_overlapping_tiles_are_summed(rule, queries, keys):
    positions = torch.arange(keys * keys).view(1, keys, keys, 1, 1).expand(2, -1, -1, -1, -1)
    total, expected = torch.zeros(2, keys, keys, 1, 1), torch.zeros(keys * keys)
    for tiles in _groups(rule, queries, keys, 100):
        for chunk in tiles.chunks():
            source = torch.ones(chunk.key_tiles(total).shape)
            chunk.add_keys(total, source)
            if not chunk.batch:
                expected += chunk.key_tiles(positions)[0].flatten().bincount(minlength=keys * keys)
    assert torch.equal(total[0].flatten(), expected)
    assert torch.equal(total[0], total[1])
