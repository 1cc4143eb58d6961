"""Settings of all tests: one thread per process, so that parallel processes do not compete for cores."""

from __future__ import annotations

import signal
import threading

import pytest
import torch

torch.set_num_threads(1)
# If a process runs its first backward pass after an export or a compilation, autograd starts threads, and processes
# that tests fork from it cannot run backward passes. Running one here avoids that.
torch.ones((), requires_grad=True).backward()

# nohup, and a shell that runs the tests in the background, make a process ignore signals that tests send to themselves.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` if there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
