"""Thousands of damaged and hostile files are loaded or refused: no crash, no code, no other exception, little memory.

`python -m pytest tests/zoo/weights/test_fuzzing.py` takes about two minutes on one core.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support import fuzz_worker
from support.fuzz_checkpoints import COUNTS, base_files, flip, inputs

SEED = int(os.environ.get("ATTNZOO_FUZZ_SEED", "0"))


class Worker:
    """A process that loads files, restarted after it dies.

    Args:
        valid: A valid file of each form, to load first.
    """

    def __init__(self, valid: list[Path]):
        self.valid = valid
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, fuzz_worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.memory = 0
        for path in self.valid:
            answer = self.ask(path)
            assert answer["outcome"] == "loaded", (path, answer)
            self.memory = answer["memory"]
        assert self.process.stdin is not None
        self.process.stdin.write("limit\n")
        return self.process

    def ask(self, path: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            return {"outcome": f"the process died with code {self.process.wait()}"}
        return json.loads(line)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_file_is_loaded_or_refused(tmp_path: Path) -> None:
    valid = []
    for form, content in base_files().items():
        valid.append(tmp_path / f"{form}.pth")
        valid[-1].write_bytes(content)
    worker = Worker(valid)
    outcomes: dict[str, Counter[str]] = {}
    faults = []
    most_memory = 0
    for index, (kind, content) in enumerate(inputs(SEED)):
        path = tmp_path / f"{index}.pth"
        path.write_bytes(content)
        answer = worker.ask(path)
        outcome = str(answer["outcome"])
        outcomes.setdefault(kind, Counter())[outcome] += 1
        if outcome in ("loaded", "refused"):
            path.unlink()
        else:
            faults.append(f"{kind} {path}: {outcome}")
        if outcome.startswith("the process died"):
            worker.start()
        else:
            most_memory = max(most_memory, answer["memory"] - worker.memory)
    worker.stop()
    print({kind: dict(counts) for kind, counts in outcomes.items()}, f"{most_memory / 2**20:.0f} MiB")
    assert not faults, f"{len(faults)} faults: " + "\n".join(faults[:20])
    assert sum(COUNTS.values()) >= 3500
    assert most_memory < 256 << 20
    # Without files that load, only the first checks would have been tested.
    assert outcomes["flipped pickle"]["loaded"] > 20
    assert outcomes["program"]["loaded"] > 20
    assert outcomes["dtype"]["loaded"] > 5
    assert outcomes["safetensors"]["loaded"] > 5


def test_inputs_are_seeded_and_change_the_files() -> None:
    content = base_files()["zip"]
    assert flip(random.Random(3), content, 4) == flip(random.Random(3), content, 4) != content
