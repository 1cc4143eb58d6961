"""Loads the files that are named on standard input, and reports for each what happened.

Run as a script by `test_fuzzing.py`, which notices if this process dies.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from attnzoo.zoo.weights import CheckpointError, WeightsMismatchError, load_weights, safe_load

SECONDS = 10
"""Longest time for one file."""

EXTRA_MEMORY = 1 << 30
"""Bytes of address space that loading may take in addition to what the process has at the start."""

_FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "subprocess.Popen", "socket.connect",
    "exec", "compile", "ctypes", "marshal.loads", "pickle.find_class", "code.__new__", "function.__new__",
)  # fmt: skip


class Watch:
    """Records what Python code in a file could do, while it is switched on."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.on = False
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if self.on and (writes or event.startswith(_FORBIDDEN)):
            self.events.append(event)


def touch(value: Any) -> None:
    """Reads everything in a checkpoint."""
    if isinstance(value, torch.Tensor):
        value.float().sum() if not value.is_complex() else value.sum()
    elif isinstance(value, (np.ndarray, np.generic)):
        repr(value)
        np.array(value, copy=True)
    elif isinstance(value, dict):
        for item in value.values():
            touch(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            touch(item)
    elif isinstance(value, Namespace):
        touch(vars(value))
    else:
        repr(value)


def load(path: str) -> str:
    """Loads a file in the ways that users do; returns whether it was "loaded" or "refused"."""
    try:
        touch(safe_load(path))
        outcome = "loaded"
    except (CheckpointError, FileNotFoundError) as error:
        if not str(error):
            raise RuntimeError("an error without a message") from error
        outcome = "refused"
    # What was loaded may contain no weights, or those of another model.
    with contextlib.suppress(CheckpointError, FileNotFoundError, WeightsMismatchError):
        load_weights(nn.Linear(4, 4), path)
    return outcome


def expire(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


def main() -> None:
    """Answers each path with a line of JSON."""
    signal.signal(signal.SIGALRM, expire)
    watch = Watch()
    for codec in ("cp437", "raw-unicode-escape"):  # which zip archives and pickles import when they need them
        "".encode(codec)
    for path in map(str.strip, sys.stdin):
        if path == "limit":  # after valid files were loaded, so that all modules are imported
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + EXTRA_MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            watch.on = True
            continue
        start, watch.events = time.perf_counter(), []
        signal.alarm(SECONDS)
        try:
            outcome = load(path)
        except BaseException as error:  # everything else is a fault
            outcome = f"{type(error).__name__}: {str(error)[:300]}"
        signal.alarm(0)
        answer = {
            "outcome": f"the file caused {watch.events}" if watch.events else outcome,
            "seconds": time.perf_counter() - start,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
