"""The definition of neighborhood attention against the published implementation's outputs and gradients."""

from __future__ import annotations

import pytest
import torch

from support.kernel_cases import PACK_CASES, check_pack_case


@pytest.mark.parametrize("case", PACK_CASES, ids=lambda case: case["name"])
def test_pack(case):
    check_pack_case(case, backend="reference", dtype=torch.float64, tolerance=1e-6)
