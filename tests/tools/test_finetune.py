"""tools/finetune.py: its messages and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.tools import finetune
from support.own_data import class_folders

SMALL = [
    "--cfg-options",
    "model.backbone.depths=[1,1]",
    "model.backbone.embed_dims=[16,32]",
    "model.backbone.head_dim=8",
]


def test_a_dry_run_prints_what_was_recognized_and_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = class_folders(tmp_path / "photos", 10)
    arguments = ["metaformer_micro", "--data", str(root), "--weights", "none", "--image-size", "32", *SMALL]
    assert finetune.main([*arguments, "--work-dir", str(tmp_path / "out"), "--dry-run", "--no-ema"]) == 0
    printed = capsys.readouterr().out
    assert "data: class folders, classification, 2 classes (blue, red); images: 16 train, 4 val" in printed
    assert "--ema          off                  given" in printed
    assert "first step" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nat_mny", "--data", "."], "Unknown model 'nat_mny'"),
        (["nat_mini", "--data", "nowhere"], "data: there is no nowhere"),
        (["nat_mini", "--data", ".", "--epochs", "0"], "epochs must be an integer >= 1, got 0"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(class_folders(tmp_path))
    assert finetune.main(arguments) == 2
    assert message in capsys.readouterr().err
