"""Outputs and gradients against those of the published implementation, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from support.kernel_cases import PACK_CASES, check_pack_case

# The smallest case with each option. The slow suite has all cases.
_QUICK = {
    "whole_map_stage4_rpb",
    "even_2x2",
    "dilated_one_axis",
    "stride_blocked",
    "causal_both",
    "scale_given",
    "one_head_wide",
    "gqa",
    "additional_kv",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["name"], marks=[] if case["name"] in _QUICK else pytest.mark.slow)
        for case in PACK_CASES
    ],
)
def test_outputs_and_gradients(case):
    check_pack_case(case, "triton", torch.float32, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rpb_dilated_uneven", "causal_stride", "gqa", "additional_kv"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision(name, dtype, tolerance):
    case = next(case for case in PACK_CASES if case["name"] == name)
    check_pack_case(case, "triton", dtype, tolerance)
