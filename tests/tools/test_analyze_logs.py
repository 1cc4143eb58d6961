"""Tests of tools/analyze_logs.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attnzoo.tools import analyze_logs as tool
from attnzoo.zoo.work_dir import SCALARS


@pytest.fixture
def work_dirs(tmp_path: Path) -> list[str]:
    folders = []
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        lines = [
            {"mode": "train", "epoch": epoch, "iter": 7 * epoch, "loss": number + 1 / epoch, "time": 0.25}
            for epoch in range(1, 90)
        ]
        lines.append({"mode": "val", "epoch": 89, "iter": 623, "mIoU": 40.0 + number})
        (tmp_path / name / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        folders.append(str(tmp_path / name))
    return folders


def test_plot_of_one_run(work_dirs: list[str], capsys: pytest.CaptureFixture[str]):
    assert tool.main([work_dirs[0]]) == 0
    with Image.open(Path(work_dirs[0], "scalars.png")) as image:
        assert image.size[0] > 1200  # two panels
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["one", "mIoU", "40", "89", "40", "89"]
    assert lines[5].split() == ["one", "623", "0.25", "-", "2.6", "min"]


def test_plot_of_several_runs(work_dirs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "new" / "both.png"
    options = ["--keys", "loss", "--by", "iter", "--smooth", "5", "--title", "Both", "--out", str(out)]
    assert tool.main([*work_dirs, *options]) == 0
    assert out.is_file()
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 1 scalars of 2 training runs"


def test_list_option_and_user_errors(work_dirs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert tool.main([*work_dirs, "--list"]) == 0
    assert capsys.readouterr().out.split() == ["loss", "time", "mIoU"]
    for arguments, message in [
        ([*work_dirs, "--keys", "miou"], "Unknown scalar 'miou'. Did you mean 'mIoU'"),
        ([str(tmp_path)], "There is no training log"),
        ([*work_dirs, "--smooth", "-1"], "--smooth must be >= 0, got -1."),
    ]:
        assert tool.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.png"))
