"""The fused kernels in Triton's interpreter: needs TRITON_INTERPRET=1 before Triton is imported.

`tests/kernels/test_fused.py` runs these files so. By hand:
TRITON_INTERPRET=1 python -m pytest tests/kernels/interpreted
"""

from __future__ import annotations

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
