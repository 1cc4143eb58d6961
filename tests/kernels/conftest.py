"""Leaves out tests that need Triton's interpreter in a process without it.

`test_interpreted.py` runs them in processes of their own. By hand:
TRITON_INTERPRET=1 python -m pytest tests/kernels/neighborhood/fused/test_forward.py
"""

from __future__ import annotations

from support.interpreter import INTERPRETED_TESTS, is_interpreting

collect_ignore = [] if is_interpreting() else list(INTERPRETED_TESTS)
