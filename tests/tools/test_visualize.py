"""Tests of tools/visualize.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from attnzoo import save_pretrained
from attnzoo.tools import visualize
from attnzoo.zoo.plots import attention

from ..zoo.weights.small_models import small


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_all_kinds_of_plots(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kinds = ["attention", "receptive", "features", "gradcam"]
    argv = ["nat_digits", str(photo), "--what", *kinds, "--out", str(tmp_path / "out"), "--query", "80", "10"]
    assert visualize.main([*argv, "--stage", "0", "--target", "3"]) == 0
    output = capsys.readouterr().out
    assert "sees 9" in output
    assert "class 3, probability" in output
    for kind in kinds:
        with Image.open(tmp_path / "out" / f"nat_digits_{kind}.png") as plot:
            assert min(plot.size) > 150


def test_random_weights_are_labeled(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    titles = []
    monkeypatch.setattr(
        attention, "draw_panels", lambda _, panels, title, *rest, **options: titles.append(title) or b""
    )
    out = ["--out", str(tmp_path / "plot.png"), "--size", "32"]
    assert visualize.main(["nat_digits", str(photo), *out]) == 0
    assert titles.pop().endswith("of nat_digits (random weights), stage 1, block 1")
    assert "warning: nat_digits has random weights" in capsys.readouterr().err
    folder = save_pretrained(small(), tmp_path / "saved")
    assert visualize.main([f"local-dir:{folder}", str(photo), *out]) == 0
    assert titles.pop().endswith("of saved, stage 2, block 0")
    assert not capsys.readouterr().err


def test_block_without_attention_weights_falls_back_to_its_receptive_field(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "pool.png"
    assert visualize.main(["metaformer_micro", str(photo), "--out", str(out), "--size", "32"]) == 0
    assert "its receptive field is shown" in capsys.readouterr().out
    assert out.is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--query", "90", "0"], "--query must be inside the image of 90x60 pixels (width x height), got 90 0."),
        (["--stage", "7"], "There is no stage 7"),
        (["--head", "5"], "There is no head 5; the block has"),
        (["--what", "gradcam", "--target", "10"], "There is no class 10; the model has 10"),
        (
            ["--what", "gradcam", "--target", "seven"],
            "--target must be a class index, got 'seven': the model has no class names.",
        ),
        (
            ["--what", "gradcam", "features", "--out", "one.png"],
            "--out must be a folder for 2 plots, got the file one.png.",
        ),
        (["--size", "0"], "--size takes one or two positive numbers, the shorter side or height and width, got [0]."),
    ],
)
def test_user_errors(argv: list[str], message: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = [] if "--out" in argv else ["--out", str(tmp_path / "out.png")]
    assert visualize.main(["nat_digits", str(photo), *argv, *out]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_target_by_class_name():
    loaded = SimpleNamespace(classes=["cat", "dog"])
    assert visualize.find_target("dog", cast(Any, loaded)) == 1
    with pytest.raises(ValueError, match=r"Unknown class 'dgo'\. Did you mean 'dog'"):
        visualize.find_target("dgo", cast(Any, loaded))


def test_file_that_is_not_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "notes.txt").write_text("not an image")
    assert visualize.main(["metaformer_micro", str(tmp_path / "notes.txt")]) == 2
    assert "cannot be read as an image" in capsys.readouterr().err
