"""Samples of images: the median side, orientations, and images that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from attnzoo.zoo.finetune.samples import SAMPLED_IMAGES, ImageSample, sample_images
from support.own_data import write_image


def test_sides_and_orientations(tmp_path: Path):
    paths = [write_image(tmp_path / f"{side}.png", size=(side, 40)) for side in (10, 20, 30)]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (50, 21)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"")
    found = sample_images([*paths, tmp_path / "turned.jpg", tmp_path / "broken.png"])
    assert found == ImageSample(count=4, side=20, rotated=1)


def test_not_all_images_are_looked_at(tmp_path: Path):
    path = write_image(tmp_path / "a.png")
    assert sample_images([path] * 1000).count == SAMPLED_IMAGES


def test_images_of_which_none_can_be_read_are_refused(tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of 1 images could be read, such as .*broken.png"):
        sample_images([tmp_path / "broken.png"])
