from __future__ import annotations

import torch

from attnzoo.kernels.neighborhood.fused.backward_inputs import BackwardInputs
from attnzoo.kernels.neighborhood.fused.padded_bias import PaddedBias
from attnzoo.kernels.neighborhood.fused.plan import Grid
from attnzoo.kernels.neighborhood.operands import Operands


def _inputs(operands: Operands) -> BackwardInputs:
    out = torch.empty((*operands.query.shape[:4], operands.value.shape[4]), device=operands.query.device)
    return BackwardInputs(operands, PaddedBias(None, Grid(0, 0)), out, out[..., 0], out[..., 0], out, operands, 1.0)


def test_shapes():
    query, key, value = torch.empty(2, 3, 4, 6, 20), torch.empty(2, 6, 8, 2, 20), torch.empty(2, 6, 8, 2, 5)
    inputs = _inputs(Operands(query, key, value))
    assert inputs.maps == (3, 4, 6, 8)
    assert inputs.group == 3
    assert inputs.tokens == 0
    assert inputs.constants == {"QK_DIM": (20, 32), "V_DIM": (5, 16), "INT64_OFFSETS": False}
    tokens = torch.empty(2, 7, 2, 20)
    assert _inputs(Operands(query, key, value, additional_keys=tokens)).tokens == 7


def test_any_large_map_makes_all_offsets_64_bit():
    query = torch.empty(1, 4, 4, 1, 8, device="meta")
    large = torch.empty_strided((1, 4, 4, 1, 9), (0, 2**30, 1, 1, 1), device="meta")
    assert not _inputs(Operands(query, query, query)).constants["INT64_OFFSETS"]
    assert _inputs(Operands(query, query, query, col_terms=large)).constants["INT64_OFFSETS"]
