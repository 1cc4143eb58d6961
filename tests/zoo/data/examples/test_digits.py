"""The digits: complete, with a fixed stratified split, and written atomically."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.data.examples import digits


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "digits"
    assert digits.make_digits(out, size=16)
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


def test_images_are_the_real_digits(made: Path):
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
    first = np.flatnonzero(digits.stratified_split(labels, 0.2, seed=0))
    assert first.tolist() == [7, 8, 10, 13, 14, 21, 27, 32]
    assert first.tolist() != np.flatnonzero(digits.stratified_split(labels, 0.2, seed=1)).tolist()


def test_force_replaces_other_settings(tmp_path: Path):
    out = tmp_path / "digits"
    assert digits.make_digits(out, size=8)
    assert digits.make_digits(out, size=9, force=True)
    assert Image.open(next(out.glob("train/0/*.png"))).size == (9, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stops(*args: object):
        yield "train/0/0000.png", b"one"
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "digit_files", stops)
    with pytest.raises(KeyboardInterrupt):
        digits.make_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []
