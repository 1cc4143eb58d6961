"""The definition of neighborhood attention against the published implementation's windows, outputs and gradients."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.neighborhood.geometry import Neighborhood, axis_tables
from support.kernel_cases import AXIS_WINDOWS, PACK_CASES, check_pack_case


@pytest.mark.parametrize("case", PACK_CASES, ids=lambda case: case["name"])
def test_pack(case):
    check_pack_case(case, backend="reference", dtype=torch.float64, tolerance=1e-6)


@pytest.mark.parametrize("axis", AXIS_WINDOWS, ids=str)
def test_tables_show_the_published_windows(axis):
    rule = Neighborhood(axis["kernel_size"], axis["stride"], axis["dilation"], axis["is_causal"])
    tables = axis_tables(rule, axis["length"], axis["length"])
    for slot, position in enumerate(tables.query_order.tolist()):
        visible = tables.key_order[int(tables.start[slot]) : int(tables.end[slot])].tolist()
        assert visible == axis["visible"][position]
