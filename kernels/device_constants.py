"""Tables that operators need on a GPU: copied once, outside of CUDA graphs, and never freed.

A CUDA graph replays launches with the addresses that it was captured with, and reuses the memory that was allocated
during its warm-up and capture. A table that an operator copies and caches must therefore not be allocated there, and
must live as long as the graph. `torch.compile(mode="reduce-overhead")` redirects the allocations of its own thread, and
a capture those of its own streams, so tables are copied by another thread on another stream. Compared with tables as
operator inputs, this works for sizes that torch.compile does not know, and leaves the operator's schema alone; compared
with operators that are tagged as unsafe for CUDA graphs, attention stays part of the graph.
"""

from __future__ import annotations

import threading

import torch


class DeviceConstant:
    """A table with its copies on GPUs.

    Args:
        table: The table on the CPU. Not to be changed.
    """

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        self._copies: dict[torch.device, torch.Tensor] = {}

    def on(self, device: torch.device) -> torch.Tensor:
        """Returns the table on a device. On a GPU, only the first call copies it, and waits for nothing but the copy.

        Raises:
            RuntimeError: If the table was not used on this GPU before, and a CUDA graph is being captured.
        """
        if device.type != "cuda":
            return self.table.to(device)
        copy = self._copies.get(device)
        if copy is None:
            copy = self._copies[device] = _copied_elsewhere(self.table, device)
        return copy


def _copied_elsewhere(table: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies a table in a thread and on a stream of its own."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "A CUDA graph is being captured, but attention has not run with these sizes on this device before. Run the "
            "captured function once before the capture, as its kernels must be compiled and their tables copied first."
        )
    results: list[torch.Tensor | BaseException] = []

    def copy() -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream(device)):
                results.append(table.to(device))  # from pageable memory, so it waits for this stream
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=copy, name="attnzoo-device-constant")
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    return result
