"""Files are written completely or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from attnzoo.zoo.files import write_bytes, write_json


def test_a_file_is_replaced_completely(tmp_path: Path):
    path = tmp_path / "new" / "results.json"
    write_json(path, {"top1": 1.5})
    write_json(path, {"top1": 2.5})
    assert json.loads(path.read_text()) == {"top1": 2.5}
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_bytes(tmp_path / "a", b"old")

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_numbers_must_be_finite(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"top1": float("nan")})
    assert list(tmp_path.iterdir()) == []
