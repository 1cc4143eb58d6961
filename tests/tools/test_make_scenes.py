"""Tests of tools/make_scenes.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo.tools import make_scenes as tool

ARGUMENTS = ["--size", "72", "--train", "12", "--val", "5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "scenes"
    assert tool.main(["--out", str(out), *ARGUMENTS]) == 0
    return out


def test_second_run_writes_nothing_unless_the_folder_is_damaged(made: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--out", str(made), *ARGUMENTS]
    annotations = made / "annotations/instances_val.json"
    before, stamp = annotations.read_text(), annotations.stat().st_mtime_ns
    assert tool.main(arguments) == 0
    assert "already there" in capsys.readouterr().out
    assert annotations.stat().st_mtime_ns == stamp
    annotations.write_text("{}")
    assert tool.main(arguments) == 0
    assert json.loads(annotations.read_text()) == json.loads(before)


def test_user_errors(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert tool.main(["--out", str(tmp_path / "new"), "--size", "20"]) == 2
    assert "--size must be >= 64, got 20." in capsys.readouterr().err
    assert tool.main(["--out", str(made), *ARGUMENTS, "--most", "2"]) == 2
    assert "--force" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert tool.main(["--out", str(tmp_path / "other")]) == 2
    assert "not made by make_scenes" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
