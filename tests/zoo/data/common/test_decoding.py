import io

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.data.common.decoding import BrokenImageError, decode_rgb


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
