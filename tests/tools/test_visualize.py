"""The command line of tools/visualize.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.tools import visualize


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


class TestTool:
    def test_all_pictures_of_a_model(self, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        kinds = ["attention", "receptive", "features", "gradcam"]
        argv = ["nat_digits", str(photo), "--what", *kinds, "--out", str(tmp_path / "out"), "--query", "80", "10"]
        assert visualize.main([*argv, "--stage", "0", "--target", "3"]) == 0
        said = capsys.readouterr().out
        assert "sees 9" in said
        assert "class 3, probability" in said
        for kind in kinds:
            with Image.open(tmp_path / "out" / f"nat_digits_{kind}.png") as picture:
                assert min(picture.size) > 150

    def test_a_block_without_weights_shows_its_receptive_field(
        self, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        out = tmp_path / "pool.png"
        assert visualize.main(["metaformer_micro", str(photo), "--out", str(out), "--size", "32"]) == 0
        assert "its receptive field is shown" in capsys.readouterr().out
        assert out.is_file()

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--query", "90", "0"], "--query 90 0 lies outside the picture, which is 90 wide and 60 high"),
            (["--stage", "7"], "There is no stage 7"),
            (["--head", "5"], "There is no head 5; the block has"),
            (["--what", "gradcam", "--target", "10"], "There is no class 10; the model has 10"),
            (["--what", "gradcam", "--target", "seven"], "--target seven: the model knows no such class"),
            (["--what", "gradcam", "features", "--out", "one.png"], "name a folder"),
            (["--size", "0"], "--size is one number of pixels or two"),
        ],
    )
    def test_mistakes_are_one_line(
        self, argv: list[str], message: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        out = [] if "--out" in argv else ["--out", str(tmp_path / "out.png")]
        assert visualize.main(["nat_digits", str(photo), *argv, *out]) == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]

    def test_a_file_that_is_no_picture(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        (tmp_path / "notes.txt").write_text("no picture")
        assert visualize.main(["metaformer_micro", str(tmp_path / "notes.txt")]) == 2
        assert "cannot be read as a picture" in capsys.readouterr().err
