"""The tests that run in Triton's interpreter."""

from __future__ import annotations

import os
from pathlib import Path

KERNEL_TESTS = Path(__file__).parents[1] / "kernels"
INTERPRETED_TESTS = (
    "neighborhood/fused/test_addressing.py",
    "neighborhood/fused/test_backward.py",
    "neighborhood/fused/test_backward_additional.py",
    "neighborhood/fused/test_backward_bias.py",
    "neighborhood/fused/test_backward_dkv.py",
    "neighborhood/fused/test_backward_dq.py",
    "neighborhood/fused/test_forward.py",
    "neighborhood/fused/test_memory.py",
    "neighborhood/fused/test_padded_bias.py",
    "neighborhood/fused/test_published_cases.py",
    "routing/fused/test_addressing.py",
    "routing/fused/test_backward.py",
    "routing/fused/test_backward_dkv.py",
    "routing/fused/test_backward_dq.py",
    "routing/fused/test_forward.py",
    "routing/fused/test_memory.py",
    "triton_common/test_addressing.py",
    "triton_common/test_softmax.py",
)
"""Files in KERNEL_TESTS that need TRITON_INTERPRET=1 before Triton is imported, and therefore their own process."""


def is_interpreting() -> bool:
    """Returns whether this process runs Triton kernels in the interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"
