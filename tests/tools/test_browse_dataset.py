"""tools/browse_dataset.py: samples with what is known of them, as training sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attnzoo.tools import browse_dataset
from support import tiny_classifier


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier.write_config(tmp_path_factory.mktemp("tiny"))


def test_a_classifiers_samples(classification: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
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


def test_the_seed_chooses_samples_and_augmentation(classification: Path, tmp_path: Path):
    def drawn(*options: str) -> bytes:
        out = tmp_path / "samples.png"
        assert browse_dataset.main([str(classification), "--out", str(out), "--count", "4", *options]) == 0
        return out.read_bytes()

    assert drawn("--seed", "1") == drawn("--seed", "1")
    assert drawn("--seed", "1") != drawn("--seed", "2")
    assert drawn("--seed", "1") != drawn("--seed", "1", "--epoch", "2")


def test_pictures_go_into_the_work_dir(classification: Path, tmp_path: Path):
    work_dir = tmp_path / "work"
    assert browse_dataset.main([str(classification), "--work-dir", str(work_dir), "--split", "test"]) == 0
    assert (work_dir / "samples_test.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count is 0"),
        (["--side", "5"], "under 100 pixels"),
        (["--cfg-options", "train_dataloader.dataset.root=nowhere"], "There is no folder"),
        (["--cfg-options", "val_dataloader=None", "--split", "val"], "there is data for train, test"),
    ],
)
def test_mistakes_end_with_a_message(
    arguments: list[str], message: str, classification: Path, capsys: pytest.CaptureFixture[str]
):
    assert browse_dataset.main([str(classification), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
