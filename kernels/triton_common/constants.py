"""Constants of the kernels. Softmax is computed in powers of 2, for which GPUs have an instruction."""

from __future__ import annotations

import math

import triton.language as tl

LOG2_E = tl.constexpr(math.log2(math.e))
"""Converts exponents of e to exponents of 2. On the host: `LOG2_E.value`."""
LN_2 = tl.constexpr(math.log(2))
"""Converts exponents of 2 to exponents of e."""
LOWEST_SCORE = tl.constexpr(-1.0e38)
"""Initial row maximum: far below any score, and finite, so that the difference of two of them is 0 and not NaN."""
