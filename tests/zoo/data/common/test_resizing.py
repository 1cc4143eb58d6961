import cv2
import numpy as np
import pytest

from attnzoo.zoo.data.common.resizing import fitted_size, next_multiple, resize_image, resize_labels
from support import painted


def test_labels_are_never_mixed():
    labels = painted.labels(0)
    for size in ((13, 17), (61, 97), (30, 40)):
        assert set(np.unique(resize_labels(labels, size))) <= set(np.unique(labels))


@pytest.mark.parametrize("size", [(13, 17), (33, 44), (61, 97), (60, 80)])
def test_a_resized_label_is_the_one_at_the_pixels_center(size: tuple[int, int]):
    labels = np.arange(31 * 41, dtype=np.uint32).astype(np.uint8).reshape(31, 41)  # odd sizes: no center is on a border
    rows, columns = (((2 * np.arange(new) + 1) * old) // (2 * new) for new, old in zip(size, labels.shape, strict=True))
    np.testing.assert_array_equal(resize_labels(labels, size), labels[np.ix_(rows, columns)])


def test_sizes_fit_the_scale_and_keep_the_aspect_ratio():
    assert fitted_size(480, 640, (1333, 800)) == (800, 1067)
    assert fitted_size(480, 640, (800, 1333)) == (800, 1067)
    assert fitted_size(640, 480, (1333, 800)) == (1067, 800)
    assert fitted_size(400, 1600, (1333, 800)) == (333, 1333)
    assert fitted_size(1, 5000, (100, 100)) == (1, 100)


def test_the_next_multiple():
    assert next_multiple(64, 65, 32) == (64, 96)
    assert next_multiple(1, 32, 32) == (32, 32)


def test_images_are_resized_without_antialiasing():
    stripes = np.repeat(np.tile(np.array([0, 255], np.uint8), 32)[None, :, None], 4, axis=0).repeat(3, axis=2)
    expected = cv2.resize(stripes, (16, 4), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_image(stripes, (4, 16)), expected)
    assert resize_image(stripes, (4, 64)) is stripes
    labels = stripes[..., 0]
    assert resize_labels(labels, (4, 64)) is labels
