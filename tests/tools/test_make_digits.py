"""The digits: complete, split fairly and for good, written once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.tools import make_digits as tool


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "digits"
    assert tool.main(["--out", str(out), "--size", "16"]) == 0
    return out


def test_every_digit_is_there_and_the_split_is_stratified(made: Path):
    counts = {split: Counter(path.parent.name for path in made.glob(f"{split}/*/*.png")) for split in ("train", "val")}
    assert sum(counts["train"].values()) + sum(counts["val"].values()) == 1797
    assert sorted(counts["train"]) == sorted(counts["val"]) == [str(digit) for digit in range(10)]
    for digit in counts["train"]:
        total = counts["train"][digit] + counts["val"][digit]
        assert counts["val"][digit] == round(0.2 * total)
    names = [path.name for path in made.glob("*/*/*.png")]
    assert len(names) == len(set(names))
    assert sorted(path.name for path in made.parent.iterdir()) == ["digits"]


def test_pictures_are_the_real_digits(made: Path):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    for index in (0, 700, 1796):
        (path,) = made.glob(f"*/*/{index:04d}.png")
        assert path.parent.name == str(labels[index])
        small = Image.open(path).convert("L").resize((8, 8), Image.Resampling.BOX)
        original = np.asarray(pixels[index]).reshape(8, 8) * 255 / 16
        assert Image.open(path).size == (16, 16)
        assert np.abs(np.asarray(small, dtype=float) - original).mean() < 25
        assert np.corrcoef(np.asarray(small).ravel(), original.ravel())[0, 1] > 0.98


def test_the_split_is_fixed():
    labels = np.arange(40) % 4
    first = np.flatnonzero(tool.stratified_split(labels, 0.2, seed=0))
    assert first.tolist() == [7, 8, 10, 13, 14, 21, 27, 32]
    assert first.tolist() != np.flatnonzero(tool.stratified_split(labels, 0.2, seed=1)).tolist()


def test_a_second_run_writes_nothing_and_a_damaged_folder_is_mended(made: Path, capsys: pytest.CaptureFixture[str]):
    picture = next(made.glob("val/3/*.png"))
    before = picture.stat().st_mtime_ns
    assert tool.main(["--out", str(made), "--size", "16"]) == 0
    assert "already there" in capsys.readouterr().out
    assert picture.stat().st_mtime_ns == before
    content = picture.read_bytes()
    picture.write_bytes(b"damaged")
    assert tool.main(["--out", str(made), "--size", "16"]) == 0
    assert "written" in capsys.readouterr().out
    assert picture.read_bytes() == content


def test_other_folders_are_left_alone(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.txt").write_text("mine")
    assert tool.main(["--out", str(tmp_path)]) == 2
    assert "was not made by make_digits" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert tool.main(["--out", str(made), "--size", "8"]) == 2
    assert "was made with other settings" in capsys.readouterr().err


def test_force_replaces_other_settings(tmp_path: Path):
    out = tmp_path / "digits"
    assert tool.make_digits(out, size=8)
    assert tool.make_digits(out, size=9, force=True)
    assert Image.open(next(out.glob("train/0/*.png"))).size == (9, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stops(*args: object):
        yield "train/0/0000.png", b"one"
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "pictures", stops)
    with pytest.raises(KeyboardInterrupt):
        tool.make_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--size", "7", "at least 8"),
        ("--val-fraction", "1", "between 0.01 and 0.99"),
        ("--seed", "-1", "between 0 and"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str):
    assert tool.main(["--out", str(tmp_path / "digits"), option, value]) == 2
    assert said in capsys.readouterr().err
