"""Tests of the paths of output images, and of writing them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from attnzoo.zoo.inference import ClassificationResult
from attnzoo.zoo.inference.output_files import OutputPaths, write_image


def result(path: str | Path) -> ClassificationResult:
    return ClassificationResult(path=str(path), size=(4, 4), classes=("cat", "dog"), scores=torch.tensor([1.0, 0.0]))


def test_images_of_a_folder_keep_their_relative_paths(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    paths = OutputPaths([str(tmp_path / "photos")], set())
    out = tmp_path / "out"
    assert paths.choose(out, result(tmp_path / "photos" / "a" / "x.jpg")) == out / "a" / "x.png"
    assert paths.choose(out, result(tmp_path / "other" / "a" / "y.jpg")) == out / "y.png"


def test_no_path_is_chosen_twice(tmp_path: Path):
    paths = OutputPaths([], set())
    chosen = [paths.choose(tmp_path, result(name)).name for name in ("a/x.jpg", "b/x.png", "c/X.jpg")]
    assert chosen == ["x.png", "x_2.png", "X_3.png"]


def test_urls_are_named_after_their_file(tmp_path: Path):
    assert OutputPaths([], set()).choose(tmp_path, result("https://host/a/x.jpg?size=1")) == tmp_path / "x.png"


def test_protected_files_are_not_chosen(tmp_path: Path):
    paths = OutputPaths([], {(tmp_path / "x.png").resolve()})
    assert paths.choose(tmp_path, result("x.jpg")) == tmp_path / "x_2.png"


def test_images_are_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "new" / "x.png"
    write_image(path, Image.new("RGB", (3, 2), "red"))
    before = path.read_bytes()

    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="No space left"):
        write_image(path, Image.new("RGB", (3, 2), "blue"))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["x.png"]
