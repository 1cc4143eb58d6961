"""Inputs of a predictor are found in paths, folders, glob patterns, arrays, tensors and lists."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.data.common.decoding import BrokenImageError
from attnzoo.zoo.inference import inputs
from attnzoo.zoo.inference.inputs import count_inputs, find_sources, is_single

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encode(kind: str = "PNG", image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(RGB)).save(buffer, format=kind)
    return buffer.getvalue()


def write(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode() if content is None else content)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def test_folders_are_searched_in_natural_order(tmp_path: Path):
    for name in ("10.png", "2.png", "b/1.JPG", "a/3.webp", ".hidden/1.png", "._2.png", "note.txt"):
        write(tmp_path / name)
    found = [Path(source.path or "").relative_to(tmp_path).as_posix() for source in find_sources(tmp_path)]
    assert found == ["2.png", "10.png", "a/3.webp", "b/1.JPG"]
    assert count_inputs(str(tmp_path)) == 4


def test_files_left_out_of_a_folder_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("1.JFIF", "2.tga", "a.heic", "note.txt"):
        write(tmp_path / name)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert count_inputs(str(tmp_path)) == 2
    assert len(list(find_sources(tmp_path))) == 2
    (message,) = caplog.messages
    assert message == f"{tmp_path}: left out files that are not read as images: 1 .heic, 1 .txt."


def test_glob_patterns_match_images(tmp_path: Path):
    for name in ("10.png", "2.png", "a/3.png", "a/b/4.png", "list.txt"):
        write(tmp_path / name)

    def found(pattern: str) -> list[str]:
        return [
            Path(source.path or "").relative_to(tmp_path).as_posix() for source in find_sources(str(tmp_path / pattern))
        ]

    assert found("*.png") == ["2.png", "10.png"]
    assert found("*") == ["2.png", "10.png"]
    assert found("**/*.png") == ["2.png", "10.png", "a/3.png", "a/b/4.png"]
    assert found("*.txt") == ["list.txt"]
    with pytest.raises(ValueError, match="matches no file"):
        found("*.jpg")
    with pytest.raises(ValueError, match=r"matches 1 folders, but no file"):
        found("[a]")


def test_a_file_named_like_a_pattern_is_read(tmp_path: Path):
    path = write(tmp_path / "a[1].png")
    assert [source.path for source in find_sources(path)] == [str(path)]
    assert is_single(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{tmp}", "contains no images"),
        ("{tmp}/nothing.png", "There is no file or folder"),
        ("{tmp}/lower/nothing.png", "There is no folder"),
        ("{tmp}/phto.png", "Did you mean .*photo.txt"),
        ("ftp://example.org/a.png", "is not supported"),
        (3, "is a int"),
        (None, "is a NoneType"),
        ({"image": RGB}, "is a dict"),
        (b"raw", "is a bytes"),
        ([3.5], "input 0 is a float"),
        ([RGB, np.zeros((2, 2, 2), np.uint8)], r"input 1 has the shape \(2, 2, 2\)"),
    ],
)
def test_other_inputs_are_rejected(given: object, message: str, tmp_path: Path):
    write(tmp_path / "photo.txt")
    given = given.format(tmp=tmp_path) if isinstance(given, str) else given
    with pytest.raises(ValueError, match=message):
        list(find_sources(given))


def test_a_missing_path_in_a_list_counts_as_a_broken_image(tmp_path: Path):
    first, second = find_sources([str(tmp_path / "nothing.png"), write(tmp_path / "a.png")])
    with pytest.raises(BrokenImageError, match="There is no file or folder"):
        first.read()
    assert np.array_equal(pixels(second.read()), RGB)


def test_lists_can_mix_inputs_and_are_consumed_lazily(tmp_path: Path):
    write(tmp_path / "folder" / "1.png")
    write(tmp_path / "folder" / "2.png")
    taken = []

    def elements():
        for element in (tmp_path / "folder", RGB, np.stack([RGB, RGB]), Image.fromarray(RGB)):
            taken.append(element)
            yield element

    sources = find_sources(elements())
    next(sources)
    assert len(taken) == 1
    rest = list(sources)
    assert len(rest) == 5
    assert [source.name for source in rest[1:]] == ["input 1", "input 2[0]", "input 2[1]", "input 3"]
    for source in rest:
        assert np.array_equal(pixels(source.read()), RGB)


@pytest.mark.parametrize(
    ("given", "single"),
    [
        (RGB, True),
        (np.stack([RGB]), False),
        (torch.zeros(3, 2, 2), True),
        (torch.zeros(1, 3, 2, 2), False),
        (Image.fromarray(RGB), True),
        ([RGB], False),
        ("https://example.org/a.png?size=[1]", True),
        ("nowhere.png", True),
        ("*.png", False),
        (".", False),
    ],
)
def test_single_images_are_distinguished_from_several(given: object, single: bool):
    assert is_single(given) is single


def test_inputs_are_counted_without_reading_them():
    assert count_inputs([RGB, RGB]) == 2
    assert count_inputs(np.stack([RGB, RGB])) == 2
    assert count_inputs(iter([RGB])) is None
    assert count_inputs(["*.png"]) is None


def test_old_names_warn():
    for old, new in (("Limits", "DownloadLimits"), ("AddressSource", "URLSource"), ("UnusableSource", "InvalidSource")):
        with pytest.warns(DeprecationWarning, match=new):
            assert getattr(inputs, old) is getattr(inputs, new)
