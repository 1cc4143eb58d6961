"""Tests of tools/browse_dataset.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attnzoo.tools import browse_dataset
from support import tiny_classifier


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier.write_config(tmp_path_factory.mktemp("tiny"))


def test_classification_samples(classification: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "samples.png"
    arguments = [str(classification), "--out", str(out), "--columns", "3", "--side", "320"]
    assert browse_dataset.main([*arguments, "--count", "5"]) == 0
    assert "5 of 12 samples" in capsys.readouterr().out
    with Image.open(out) as image:
        small = image.size
        assert image.format == "PNG"
        assert 3 * 250 < small[0] < 3 * 340
        assert small[1] > 2 * 320
    assert browse_dataset.main([*arguments, "--count", "100", "--original", "--split", "val"]) == 0
    assert "9 of 9 samples" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.width > 1.8 * small[0]


def test_seed_determines_samples_and_augmentation(classification: Path, tmp_path: Path):
    def plot(*options: str) -> bytes:
        out = tmp_path / "samples.png"
        assert browse_dataset.main([str(classification), "--out", str(out), "--count", "4", *options]) == 0
        return out.read_bytes()

    assert plot("--seed", "1") == plot("--seed", "1")
    assert plot("--seed", "1") != plot("--seed", "2")
    assert plot("--seed", "1") != plot("--seed", "1", "--epoch", "2")


def test_plots_are_written_to_the_work_dir_by_default(classification: Path, tmp_path: Path):
    work_dir = tmp_path / "work"
    assert browse_dataset.main([str(classification), "--work-dir", str(work_dir), "--split", "test"]) == 0
    assert (work_dir / "samples_test.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count must be >= 1, got 0."),
        (["--side", "5"], "--side must be >= 100 for labels to be readable, got 5."),
        (["--cfg-options", "train_dataloader.dataset.root=nowhere"], "There is no folder"),
        (["--cfg-options", "val_dataloader=None", "--split", "val"], "Available splits: train, test."),
    ],
)
def test_user_errors(arguments: list[str], message: str, classification: Path, capsys: pytest.CaptureFixture[str]):
    assert browse_dataset.main([str(classification), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
