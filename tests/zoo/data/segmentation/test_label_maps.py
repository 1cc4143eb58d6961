import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.data.common.decoding import BrokenImageError
from attnzoo.zoo.data.segmentation import label_maps
from attnzoo.zoo.data.segmentation.label_maps import LabelTable, read_label_image, voc_palette


def values(most, dtype: type = np.uint8):
    return np.random.default_rng(0).integers(0, most + 1, (7, 9)).astype(dtype)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_images_are_read_as_indices(tmp_path, bits):
    wanted = values(2**bits - 1)
    image = Image.fromarray(wanted)
    image.putpalette([part for color in voc_palette() for part in color])
    image.save(tmp_path / "a.png", bits=bits)
    got = read_label_image(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == np.uint8


def _gray_png(path, array, bits):
    """Writes gray with few bits per pixel, which PIL cannot: packed rows, each after a filter byte."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in array
    )

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_of_few_bits_is_not_rescaled(tmp_path, bits):
    wanted = values(2**bits - 1)
    _gray_png(tmp_path / "a.png", wanted, bits)
    np.testing.assert_array_equal(read_label_image(str(tmp_path / "a.png")), wanted)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_values_are_read_in_full(tmp_path, suffix):
    wanted = values(60000, np.uint16)
    Image.fromarray(wanted).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_label_image(str(tmp_path / f"a{suffix}")), wanted)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_color_images_raise(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png has colors \(mode {mode}\).*PNG with one channel"):
        read_label_image(str(tmp_path / "a.png"))


def test_jpeg_label_images_raise(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(ValueError, match=r"a\.png is a JPEG"):
        read_label_image(str(tmp_path / "a.png"))


def test_broken_label_images_raise(tmp_path):
    Image.fromarray(values(255)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(BrokenImageError, match=r"a\.png cannot be read"):
        read_label_image(str(tmp_path / "a.png"))
    with pytest.raises(BrokenImageError, match="FileNotFoundError"):
        read_label_image(str(tmp_path / "b.png"))


def test_values_are_labels_by_default():
    np.testing.assert_array_equal(LabelTable(3)(np.array([[0, 1], [2, 255]], np.uint8), "a"), [[0, 1], [2, 255]])


def test_the_zero_label_is_ignored():
    got = LabelTable(150, reduce_zero_label=True)(np.array([[0, 1], [150, 255]], np.uint8), "a")
    np.testing.assert_array_equal(got, [[255, 0], [149, 255]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_values_are_looked_up(dtype):
    got = LabelTable(2, values={0: 0, 200: 1, 7: 255})(np.array([[0, 200, 7]], dtype), "a")
    np.testing.assert_array_equal(got, [[0, 1, 255]])
    assert got.dtype == np.uint8


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (
            LabelTable(3),
            np.array([[3, 9]], np.uint8),
            r"a\.png has the values 3, 9: with 3 classes, values must be in \[0, 2\], or 255",
        ),
        (LabelTable(3), np.array([[300]], np.uint16), r"a\.png has the value 300"),
        (LabelTable(3), np.array([[-1]], np.int32), r"a\.png has values from -1 to -1"),
        (LabelTable(3), np.array([[70000]], np.int32), r"a\.png has values from 70000 to 70000"),
        (
            LabelTable(3, reduce_zero_label=True),
            np.array([[4]], np.uint8),
            r"reduce_zero_label, values must be in \[1, 3\]",
        ),
        (LabelTable(2, values={0: 0, 255: 1}), np.array([[1]], np.uint8), r"label_values contains 0, 255"),
    ],
)
def test_values_without_a_label_raise(table, given, message):
    with pytest.raises(ValueError, match=message):
        table(given, "a.png")


@pytest.mark.parametrize(
    "arguments",
    [(0,), (256,), (2, True, {0: 0}), (2, False, {0: 2}), (2, False, {-1: 0}), (2, False, {1 << 16: 0})],
)
def test_impossible_tables_raise(arguments):
    with pytest.raises(ValueError, match=r"classes|not both|label_values"):
        LabelTable(*arguments)


def test_vocs_palette():
    assert voc_palette(4) == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert voc_palette(21)[20] == [0, 64, 128]
    assert len({tuple(color) for color in voc_palette()}) == 256


def test_old_names_warn():
    with pytest.warns(DeprecationWarning, match="IGNORED is now called IGNORE_INDEX"):
        assert label_maps.IGNORED == 255
