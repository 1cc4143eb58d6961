"""What every test shares: one thread for each process, so that tests on two cores do not fight for them."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)
# Where a process's first backward pass comes after an export or a compilation, autograd starts threads, and the
# processes that tests fork from it cannot run backward passes of their own. So here is the first one.
torch.ones((), requires_grad=True).backward()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shows tests marked `gpu` as skipped where there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
