"""The README: its Python runs, and the files and targets that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import attnzoo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert BLOCKS
    monkeypatch.chdir(tmp_path)
    torch.save(attnzoo.create_model("nat_tiny", num_classes=10).state_dict(), "nat_tiny.pth")
    for block in BLOCKS:
        # The only line that needs the network.
        offline = block.replace("pretrained=True)", "pretrained=False)")
        exec(compile(offline, "README.md", "exec"), {})


def test_named_files_exist():
    named = set(re.findall(r"(?:tools|configs|kernels|zoo)/[\w./-]+\.(?:py|md)", README))
    assert len(named) >= 5
    missing = [name for name in sorted(named) if not (ROOT / name).is_file()]
    assert not missing


def test_named_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert named
    assert named <= targets
