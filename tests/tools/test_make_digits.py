"""Tests of tools/make_digits.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.tools import make_digits as tool


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "digits"
    assert tool.main(["--out", str(out), "--size", "16"]) == 0
    return out


def test_second_run_writes_nothing_unless_the_folder_is_damaged(made: Path, capsys: pytest.CaptureFixture[str]):
    image = next(made.glob("val/3/*.png"))
    before = image.stat().st_mtime_ns
    assert tool.main(["--out", str(made), "--size", "16"]) == 0
    assert "already there" in capsys.readouterr().out
    assert image.stat().st_mtime_ns == before
    content = image.read_bytes()
    image.write_bytes(b"damaged")
    assert tool.main(["--out", str(made), "--size", "16"]) == 0
    assert "written" in capsys.readouterr().out
    assert image.read_bytes() == content


def test_other_folders_are_not_overwritten(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.txt").write_text("mine")
    assert tool.main(["--out", str(tmp_path)]) == 2
    assert "was not made by make_digits" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert tool.main(["--out", str(made), "--size", "8"]) == 2
    assert "was made with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "7", "--size must be >= 8"),
        ("--interpolation", "bicubik", "Unknown --interpolation 'bicubik'. Did you mean 'bicubic'"),
        ("--val-fraction", "1", "--val-fraction must be between 0.01 and 0.99"),
        ("--seed", "-1", "--seed must be between 0 and"),
    ],
)
def test_settings_out_of_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
):
    assert tool.main(["--out", str(tmp_path / "digits"), option, value]) == 2
    assert message in capsys.readouterr().err
