"""Tables on devices: copied once, by another thread, and not during the capture of a CUDA graph."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest
import torch

from attnzoo.kernels.device_constants import DeviceConstant

_GPU = torch.device("cuda", 0)


class _Table:
    """Stands in for a table, and records which thread copies it."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def to(self, device: torch.device) -> str:
        self.threads.append(threading.get_ident())
        return f"on {device}"


@pytest.fixture
def streams(monkeypatch) -> list[Any]:
    """Stands in for CUDA streams, and lists those that were entered."""
    entered: list[Any] = []

    @contextlib.contextmanager
    def enter(stream):
        entered.append(stream)
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "stream", enter)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return entered


def test_a_cpu_reads_the_table_itself():
    table = torch.arange(3)
    assert DeviceConstant(table).on(torch.device("cpu")) is table


def test_a_gpu_gets_one_copy_from_another_thread(streams):
    table = _Table()
    constant = DeviceConstant(table)  # pyright: ignore[reportArgumentType] - a stand-in
    assert constant.on(_GPU) == constant.on(_GPU) == "on cuda:0"
    assert len(table.threads) == 1
    assert table.threads[0] != threading.get_ident()
    assert streams == ["stream of cuda:0"]
    assert constant.on(torch.device("cuda", 1)) == "on cuda:1"


def test_a_capture_uses_copies_and_makes_none(streams, monkeypatch):
    used, unused = (DeviceConstant(_Table()) for _ in range(2))  # pyright: ignore[reportArgumentType] - stand-ins
    used.on(_GPU)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert used.on(_GPU) == "on cuda:0"
    with pytest.raises(RuntimeError, match="Run the captured function once before the capture"):
        unused.on(_GPU)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert unused.on(_GPU) == "on cuda:0"


def test_an_error_of_the_copy_is_raised(streams):
    class Broken(_Table):
        def to(self, device: torch.device) -> str:
            raise MemoryError("no memory is left")

    with pytest.raises(MemoryError, match="no memory is left"):
        DeviceConstant(Broken()).on(_GPU)  # pyright: ignore[reportArgumentType] - a stand-in
