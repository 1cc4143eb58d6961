"""From what a user gives to images."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.data.common.decoding import BrokenImageError, decode_rgb
from attnzoo.zoo.inference import inputs
from attnzoo.zoo.inference.arrays import image_from_array, image_from_tensor
from attnzoo.zoo.inference.inputs import Limits, count_inputs, find_sources, is_single

from ..weights.local_server import Served, Server

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def picture(kind: str = "PNG", image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(RGB)).save(buffer, format=kind)
    return buffer.getvalue()


def write(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture() if content is None else content)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


# -- Arrays and tensors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (RGB[..., 0], RGB[..., :1].repeat(3, -1)),
        (RGB[..., :1], RGB[..., :1].repeat(3, -1)),
        (np.dstack([RGB, RGB[..., :1]]), RGB),
        (RGB.astype(np.float32) / 255, RGB),
        (RGB.astype(np.float64) / 255, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
    ],
    ids=["rgb", "gray", "one channel", "rgba", "float32", "float64", "strided"],
)
def test_arrays(array: np.ndarray, expected: np.ndarray):
    assert np.array_equal(pixels(image_from_array(array)), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
def test_tensors(dtype: torch.dtype):
    tensor = torch.from_numpy(RGB.transpose(2, 0, 1).copy())
    given = tensor if dtype == torch.uint8 else (tensor.float() / 255).to(dtype).requires_grad_()
    difference = pixels(image_from_tensor(given)).astype(int) - RGB
    assert np.abs(difference).max() <= (1 if dtype == torch.bfloat16 else 0)
    assert np.array_equal(pixels(image_from_tensor(tensor[0])), RGB[..., :1].repeat(3, -1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.transpose(2, 0, 1), "channels come last"),
        (np.zeros((4, 5, 2), np.uint8), r"has the shape \(4, 5, 2\)"),
        (np.zeros(5, np.uint8), r"has the shape \(5,\)"),
        (np.zeros((0, 5, 3), np.uint8), "has the shape"),
        (np.zeros((4, 5), np.uint16), "holds uint16"),
        (np.zeros((4, 5), bool), "holds bool"),
        (RGB.astype(np.float32), "floats from 0 to 24"),
        ((RGB / 255 - 0.5).astype(np.float32), "not normalised"),
        (np.full((4, 5), np.nan), "floats from nan"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        image_from_array(array)


def test_tensors_that_are_no_images():
    with pytest.raises(ValueError, match="channels come first"):
        image_from_tensor(torch.zeros(5, 7, 3))
    with pytest.raises(ValueError, match=r"has the shape \(2, 5, 7\)"):
        image_from_tensor(torch.zeros(2, 5, 7))
    with pytest.raises(ValueError, match="holds int64"):
        image_from_tensor(torch.zeros(3, 5, 7, dtype=torch.int64))


# -- Files, folders, patterns ------------------------------------------------------------------------------------------


def test_folders_are_searched_in_natural_order(tmp_path: Path):
    for name in ("10.png", "2.png", "b/1.JPG", "a/3.webp", ".hidden/1.png", "._2.png", "note.txt"):
        write(tmp_path / name)
    found = [Path(source.path or "").relative_to(tmp_path).as_posix() for source in find_sources(tmp_path)]
    assert found == ["2.png", "10.png", "a/3.webp", "b/1.JPG"]
    assert count_inputs(str(tmp_path)) == 4


def test_patterns(tmp_path: Path):
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


def test_a_file_named_like_a_pattern_is_a_file(tmp_path: Path):
    path = write(tmp_path / "a[1].png")
    assert [source.path for source in find_sources(path)] == [str(path)]
    assert is_single(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{tmp}", "holds no images"),
        ("{tmp}/nothing.png", "There is no file or folder"),
        ("{tmp}/lower/nothing.png", "There is no folder"),
        ("{tmp}/phto.png", "Did you mean .*photo.txt"),
        ("ftp://example.org/a.png", "is not fetched"),
        (3, "is a int"),
        (None, "is a NoneType"),
        ({"image": RGB}, "is a dict"),
        (b"raw", "is a bytes"),
        ([3.5], "input 0 is a float"),
        ([RGB, np.zeros((2, 2, 2), np.uint8)], r"input 1 has the shape \(2, 2, 2\)"),
    ],
)
def test_what_is_no_image_raises(given: object, message: str, tmp_path: Path):
    write(tmp_path / "photo.txt")
    given = given.format(tmp=tmp_path) if isinstance(given, str) else given
    with pytest.raises(ValueError, match=message):
        list(find_sources(given))


def test_in_a_list_a_wrong_path_is_an_image_that_cannot_be_read(tmp_path: Path):
    first, second = find_sources([str(tmp_path / "nothing.png"), write(tmp_path / "a.png")])
    with pytest.raises(BrokenImageError, match="There is no file or folder"):
        first.read()
    assert np.array_equal(pixels(second.read()), RGB)


def test_lists_may_hold_everything_and_are_taken_lazily(tmp_path: Path):
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
def test_what_counts_as_one_image(given: object, single: bool):
    assert is_single(given) is single


def test_counting():
    assert count_inputs([RGB, RGB]) == 2
    assert count_inputs(np.stack([RGB, RGB])) == 2
    assert count_inputs(iter([RGB])) is None
    assert count_inputs(["*.png"]) is None


# -- Images of every kind ----------------------------------------------------------------------------------------------


def transparent_palette() -> Image.Image:
    image = Image.fromarray(RGB).quantize(8)
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("JPEG", Image.fromarray(RGB).convert("CMYK")),
        ("PNG", transparent_palette()),
        ("PNG", Image.fromarray(RGB).convert("LA")),
        ("PNG", Image.fromarray(RGB.astype(np.uint16)[..., 0] * 256)),
        ("PNG", Image.fromarray(RGB).convert("1")),
        ("GIF", Image.fromarray(RGB).quantize(8)),
        ("PNG", Image.new("RGB", (1, 1), (1, 2, 3))),
        ("TIFF", Image.fromarray(RGB)),
    ],
    ids=["cmyk", "palette with transparency", "gray with transparency", "16 bits", "1 bit", "gif", "1x1", "tiff"],
)
def test_an_open_image_is_read_as_its_file_is(kind: str, image: Image.Image, tmp_path: Path):
    path = write(tmp_path / "image", picture(kind, image))
    with path.open("rb") as file:
        expected = pixels(decode_rgb(file, "image"))
    (from_file,) = find_sources(path)
    with Image.open(path) as opened:
        (from_memory,) = find_sources(opened)
        assert np.array_equal(pixels(from_memory.read()), expected)
    assert from_memory.path == str(path)
    assert np.array_equal(pixels(from_file.read()), expected)


def test_files_that_are_broken(tmp_path: Path):
    truncated = write(tmp_path / "a.jpg", picture("JPEG", Image.effect_noise((64, 64), 50))[:900])
    text = write(tmp_path / "b.jpg", b"no image")
    for path in (truncated, text):
        (source,) = find_sources(path)
        with pytest.raises(BrokenImageError, match=path.name):
            source.read()
        (source,) = find_sources([path])
        text.with_name(path.name).unlink()
        with pytest.raises(BrokenImageError, match="No such file"):
            source.read()


# -- Addresses ---------------------------------------------------------------------------------------------------------


def read_address(address: str, **limits: float) -> Image.Image:
    (source,) = find_sources(address, Limits(**limits))
    return source.read()


def test_images_are_fetched(server: Server):
    address = server.serve("/a.png", Served(picture()))
    assert np.array_equal(pixels(read_address(f"{address}?size=large")), RGB)


@pytest.mark.parametrize(
    ("served", "limits", "reason"),
    [
        (Served(picture(), status=503), {}, "the server answered 503"),
        (Served(b"x" * 5000), {"megabytes": 0.004}, "larger than 0.004 MB"),
        (Served(picture(), seconds=2.0), {"seconds": 0.1}, "longer than 0.1 s"),
        (Served(picture(), cut=[20]), {}, "the connection broke|IncompleteRead"),
        (Served(b"<html>", headers={"Content-Type": "text/html"}), {}, "a web page"),
        (Served(b"no image"), {}, "cannot identify"),
    ],
    ids=["error", "too large", "too slow", "cut", "page", "no image"],
)
def test_images_that_cannot_be_fetched(server: Server, served: Served, limits: dict[str, float], reason: str):
    address = server.serve("/a.png", served)
    begin = time.monotonic()
    with pytest.raises(BrokenImageError, match=reason) as raised:
        read_address(address, **limits)
    assert time.monotonic() - begin < 1.9
    assert address in str(raised.value)


def test_servers_that_are_not_there(server: Server, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BrokenImageError, match="answered 404"):
        read_address(f"{server.address}/nothing.png")
    with pytest.raises(BrokenImageError, match="cannot be read"):
        read_address("http://127.0.0.1:9/a.png", seconds=2.0)
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    with pytest.raises(BrokenImageError, match="the network is switched off"):
        read_address(server.serve("/a.png", Served(picture())))


def test_a_server_that_sends_little_by_little_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch):
    moments = iter(range(0, 1000, 15))
    monkeypatch.setattr(inputs, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    address = server.serve("/a.png", Served(picture()))
    assert read_address(address, seconds=60).size == (7, 5)
    with pytest.raises(BrokenImageError, match="longer than 10 s"):
        read_address(address, seconds=10)
