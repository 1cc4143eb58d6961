"""Tiles as matrices, for operands that torch's fused attention would take otherwise."""

from __future__ import annotations

from unittest import mock

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.kernels.neighborhood.cpu import attention, sdpa
from support.attention_cases import AttentionCase, attention_cases, check_case


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=attention_cases(), chunk_bytes=st.sampled_from([1, 4000, 1 << 19]))
def test_random_cases(case: AttentionCase, chunk_bytes: int):
    with (
        mock.patch.object(sdpa, "is_supported", return_value=False),
        mock.patch.object(attention, "_CHUNK_BYTES", chunk_bytes),
        mock.patch.object(attention, "SdpaTiles", side_effect=AssertionError),
    ):
        check_case(case, "torch", torch.float64, 1e-9)
