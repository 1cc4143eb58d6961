import random

import cv2
import numpy as np

from attnzoo.zoo.data.common.photometric import distort
from attnzoo.zoo.seeding import isolated_randomness


def _reference(image, draw):
    """The distortion in float arithmetic, step by step; `draw` is the random generator."""

    def change(values, factor=1.0, shift=0.0):
        return np.clip(values.astype(np.float32) * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)

    if draw.random() < 0.5:
        image = change(image, shift=draw.uniform(-32, 32))
    first = draw.random() < 0.5
    if first and draw.random() < 0.5:
        image = change(image, draw.uniform(0.5, 1.5))
    if draw.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = change(hsv[..., 1], draw.uniform(0.5, 1.5))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if draw.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + draw.randrange(-18, 18)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not first and draw.random() < 0.5:
        image = change(image, draw.uniform(0.5, 1.5))
    return image


def test_distortion_matches_a_float_reference():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    results = set()
    for seed in range(64):
        with isolated_randomness(seed):
            got = distort(image.copy())
        np.testing.assert_array_equal(got, _reference(image, random.Random(seed)))
        results.add(got.tobytes())
    assert len(results) > 50
    assert image.tobytes() in results  # sometimes nothing is changed


def test_hue_and_saturation_leave_gray_alone():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    for seed in range(40):
        with isolated_randomness(seed):
            got = distort(gray)
        assert (got == got[..., :1]).all()
