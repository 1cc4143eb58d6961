import errno
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from attnzoo.zoo.data.common import decoding
from attnzoo.zoo.data.common.decoding import BrokenImageError, decode_rgb, image_formats, read_file, read_size


def encode(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    file.seek(0)
    return file


def decode(image, **options):
    return np.asarray(decode_rgb(encode(image, **options), "image"))


def test_the_content_determines_the_format(make_image):
    image = make_image(0)
    np.testing.assert_array_equal(decode(image, format="PNG"), np.asarray(image))


def test_cmyk_becomes_rgb(make_image):
    image = make_image(1)
    got = decode(image.convert("CMYK"), format="JPEG", quality=95)
    assert got.shape == (30, 40, 3)
    assert np.abs(got.astype(int) - np.asarray(image)).mean() < 4


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_gray_is_repeated(make_image, mode):
    image = make_image(2, mode="L").convert(mode)
    got = decode(image, format="PNG")
    np.testing.assert_array_equal(got, np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=2))


def test_sixteen_bits_keep_their_range():
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    got = decode(Image.fromarray(ramp), format="PNG")
    np.testing.assert_array_equal(got[..., 0], ramp >> 8)


def test_transparency_is_dropped(make_image):
    image = make_image(3)
    with_alpha = image.copy()
    with_alpha.putalpha(7)
    np.testing.assert_array_equal(decode(with_alpha, format="PNG"), np.asarray(image))
    palette = image.quantize(16)
    np.testing.assert_array_equal(decode(palette, format="PNG", transparency=3), np.asarray(palette.convert("RGB")))


def test_an_exif_orientation_is_not_applied(make_image):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(make_image(4), format="JPEG", exif=exif).shape == (30, 40, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0, 10, 60, 300])
def test_truncated_files_are_broken(make_image, file_format, kept):
    content = encode(make_image(5), format=file_format).getvalue()
    assert len(content) > 300
    with pytest.raises(BrokenImageError, match=r"The image dir/a\.jpg cannot be read: \w+") as caught:
        decode_rgb(io.BytesIO(content[:kept]), "dir/a.jpg")
    assert caught.value.path == "dir/a.jpg"


def test_damaged_bytes_raise_only_broken_image_errors(make_image):
    generator = np.random.default_rng(0)
    broken = 0
    for file_format in ("PNG", "JPEG"):
        content = np.frombuffer(encode(make_image(6), format=file_format).getvalue(), np.uint8)
        for _ in range(200):
            damaged = content.copy()
            damaged[generator.integers(0, len(content), 8)] = generator.integers(0, 256, 8)
            try:
                decode_rgb(io.BytesIO(damaged.tobytes()), "x")
            except BrokenImageError:
                broken += 1
    assert broken > 100


def fail(number):
    def open_file(*_):
        raise OSError(number, os.strerror(number), "inner")

    return open_file


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOSPC", "EACCES", "ENOMEM", "ESTALE", "EIO"])
def test_failures_of_the_machine_are_not_broken_images(monkeypatch, name):
    monkeypatch.setattr(decoding, "RETRY_SECONDS", (0, 0))
    number = getattr(errno, name)
    with pytest.raises(OSError, match=r"dir/a\.jpg") as caught:
        read_file("dir/a.jpg", fail(number))
    assert caught.value.errno == number
    assert not isinstance(caught.value, BrokenImageError)
    assert ("ulimit -n" in str(caught.value)) == (name in ("EMFILE", "ENFILE"))


@pytest.mark.parametrize("name", ["ENOENT", "EISDIR", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "EINVAL"])
def test_missing_files_are_broken_images(name):
    with pytest.raises(BrokenImageError, match=r"dir/a\.jpg cannot be read: .*Error: \w"):
        read_file("dir/a.jpg", fail(getattr(errno, name)))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_transient_errors_of_network_disks_are_retried(monkeypatch, number):
    waits = []
    monkeypatch.setattr(decoding.time, "sleep", waits.append)
    attempts = iter([fail(number), fail(number), lambda: io.BytesIO(b"content")])
    assert read_file("a.jpg", lambda: next(attempts)()).getvalue() == b"content"
    assert waits == [0.1, 1.0]
    with pytest.raises(OSError, match="Too many open files"):
        read_file("a.jpg", fail(errno.EMFILE))
    assert len(waits) == 2


def test_a_lack_of_memory_is_not_a_broken_image(monkeypatch, make_image):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError, match=r"not enough memory to read the image dir/a\.png"):
        decode_rgb(encode(make_image(0), format="PNG"), "dir/a.png")


def test_decompression_bombs_are_refused_before_they_are_decoded(make_image):
    header = struct.pack(">4sIIBBBBB", b"IHDR", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = bytearray(encode(make_image(0), format="PNG").getvalue())
    bomb[12:29] = header
    bomb[29:33] = struct.pack(">I", zlib.crc32(header))
    with pytest.raises(
        BrokenImageError, match=r"bomb\.png cannot be read: DecompressionBombError: .*2500000000 pixels"
    ):
        decode_rgb(io.BytesIO(bytes(bomb)), "bomb.png")


def test_a_compressed_text_in_a_png_is_bounded(make_image):
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "0" * 50_000_000, zip=True)
    content = encode(make_image(0), format="PNG", pnginfo=text)
    assert len(content.getvalue()) < 100_000
    with pytest.raises(BrokenImageError, match=r"a\.png cannot be read: ValueError: .*too large"):
        decode_rgb(content, "a.png")


def test_huge_files_are_not_read(monkeypatch, tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(2**31 + 1)  # a sparse file, which takes no space
    with pytest.raises(BrokenImageError, match=r"a\.png cannot be read: it has 2147483649 bytes"):
        read_file(str(tmp_path / "a.png"))


def test_documents_and_videos_are_not_decoded():
    assert {"JPEG", "PNG", "WEBP", "TIFF"} < set(image_formats())
    with pytest.raises(BrokenImageError, match="cannot identify"):
        decode_rgb(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"), "a.jpg")


def test_sizes_are_read_from_headers(tmp_path, make_image):
    make_image(0).save(tmp_path / "a.png")
    assert read_size(str(tmp_path / "a.png")) == (30, 40)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(BrokenImageError, match=r"a\.png cannot be read"):
        read_size(str(tmp_path / "a.png"))
