"""Images are read from files, from memory and from URLs, and errors say why they are not."""

from __future__ import annotations

import errno
import io
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.data.common.decoding import BrokenImageError, decode_rgb
from attnzoo.zoo.inference import sources
from attnzoo.zoo.inference.inputs import find_sources
from attnzoo.zoo.inference.sources import DownloadLimits

from ..weights.local_server import Served, Server

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
def test_an_open_image_is_read_like_its_file(kind: str, image: Image.Image, tmp_path: Path):
    path = write(tmp_path / "image", encode(kind, image))
    with path.open("rb") as file:
        expected = pixels(decode_rgb(file, "image"))
    (from_file,) = find_sources(path)
    with Image.open(path) as opened:
        (from_memory,) = find_sources(opened)
        assert np.array_equal(pixels(from_memory.read()), expected)
    assert from_memory.path == str(path)
    assert np.array_equal(pixels(from_file.read()), expected)


def test_broken_files_are_errors(tmp_path: Path):
    truncated = write(tmp_path / "a.jpg", encode("JPEG", Image.effect_noise((64, 64), 50))[:900])
    text = write(tmp_path / "b.jpg", b"no image")
    for path in (truncated, text):
        (source,) = find_sources(path)
        with pytest.raises(BrokenImageError, match=path.name):
            source.read()
        (source,) = find_sources([path])
        text.with_name(path.name).unlink()
        with pytest.raises(BrokenImageError, match="No such file"):
            source.read()


def read_url(url: str, **limits: float) -> Image.Image:
    (source,) = find_sources(url, DownloadLimits(**limits))
    return source.read()


def test_images_are_downloaded(server: Server):
    url = server.serve("/a.png", Served(encode()))
    assert np.array_equal(pixels(read_url(f"{url}?size=large")), RGB)


@pytest.mark.parametrize(
    ("served", "limits", "reason"),
    [
        (Served(encode(), status=503), {}, "the server answered 503"),
        (Served(b"x" * 5000), {"megabytes": 0.004}, "larger than 0.004 MB"),
        (Served(encode(), seconds=2.0), {"seconds": 0.1}, "longer than 0.1 s"),
        (Served(encode(), cut=[20]), {}, "the connection broke|IncompleteRead"),
        (Served(b"<html>", headers={"Content-Type": "text/html"}), {}, "a web page"),
        (Served(b"no image"), {}, "cannot identify"),
    ],
    ids=["error", "too large", "too slow", "cut", "page", "no image"],
)
def test_failed_downloads_are_errors(server: Server, served: Served, limits: dict[str, float], reason: str):
    url = server.serve("/a.png", served)
    begin = time.monotonic()
    with pytest.raises(BrokenImageError, match=reason) as raised:
        read_url(url, **limits)
    assert time.monotonic() - begin < 1.9
    assert url in str(raised.value)


def test_unreachable_servers_are_errors(server: Server, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BrokenImageError, match="answered 404"):
        read_url(f"{server.address}/nothing.png")
    with pytest.raises(BrokenImageError, match="cannot be read"):
        read_url("http://127.0.0.1:9/a.png", seconds=2.0)
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    with pytest.raises(BrokenImageError, match="the network is disabled"):
        read_url(server.serve("/a.png", Served(encode())))


def test_a_server_that_sends_single_bytes_times_out(server: Server, monkeypatch: pytest.MonkeyPatch):
    moments = iter(range(0, 1000, 15))
    monkeypatch.setattr(sources, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    url = server.serve("/a.png", Served(encode()))
    assert read_url(url, seconds=60).size == (7, 5)
    with pytest.raises(BrokenImageError, match="longer than 10 s"):
        read_url(url, seconds=10)


def test_failures_of_the_machine_are_not_broken_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.png")
    (source,) = find_sources(path)

    def fail(number: int):
        def read(name: str) -> io.BytesIO:
            raise OSError(number, "failed", name)

        return read

    monkeypatch.setattr(sources, "read_file", fail(errno.EACCES))
    with pytest.raises(BrokenImageError, match=r"a\.png cannot be read: failed"):
        source.read()
    monkeypatch.setattr(sources, "read_file", fail(errno.EMFILE))
    with pytest.raises(OSError, match=r"failed: '.*a\.png'"):
        source.read()
