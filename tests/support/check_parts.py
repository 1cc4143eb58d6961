"""Parts for the tests of the supervisor. Its processes import them, so they cannot be in a test's file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

OnUpdate = Callable[[dict[str, Any]], None]


def measures(device_type: str, on_update: OnUpdate) -> dict[str, Any]:
    """Measures two values."""
    on_update({"first": device_type})
    return {"first": device_type, "second": os.getpid()}


def fails(device_type: str, on_update: OnUpdate) -> dict[str, Any]:
    """Returns results that are a failure."""
    print("what went wrong")
    return {"failed": 1}


def skips(device_type: str, on_update: OnUpdate) -> dict[str, Any]:
    """Has nothing to run."""
    return {"skipped_because": "nothing is installed"}


def raises(device_type: str, on_update: OnUpdate) -> dict[str, Any]:
    """Raises an exception after a measurement."""
    on_update({"first": 1})
    raise RuntimeError("a bug")


def dies(device_type: str, on_update: OnUpdate) -> dict[str, Any]:
    """Ends as a crashed driver would end it."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hangs(device_type: str, on_update: OnUpdate) -> dict[str, Any]:
    """Starts another process and never ends."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    on_update({"child": child.pid})
    time.sleep(600)
    return {}
