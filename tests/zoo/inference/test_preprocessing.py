"""Images are prepared as by the data set of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.zoo.inference.arrays import image_from_array
from attnzoo.zoo.inference.preprocessing import batch_key, crop_strip, prepare_image
from attnzoo.zoo.registry import TRANSFORMS


def test_very_long_strips_are_cropped_to_their_center():
    strip = np.arange(3000, dtype=np.float64)[None] / 3000
    cut = crop_strip(image_from_array(strip))
    assert cut.size == (100, 1)
    middle = np.asarray(cut)[0, :, 0].astype(int)
    assert np.array_equal(middle, np.asarray(crop_strip(image_from_array(strip.T)))[:, 0, 0])
    assert abs(middle.mean() - 127.5) < 1
    usual = Image.new("RGB", (400, 4))
    assert crop_strip(usual) is usual


def test_every_kind_of_task_gets_the_entries_of_its_samples():
    image = Image.new("RGB", (40, 30), (9, 9, 9))
    classification = prepare_image(image, "classification", TRANSFORMS.build({"type": "Evaluation", "size": 16}))
    assert classification["image"].shape == (3, 16, 16)
    for kind, name in (("detection", "DetectionTest"), ("segmentation", "SegmentationTest")):
        sample = prepare_image(image, kind, TRANSFORMS.build({"type": name, "scale": (80, 60)}))
        assert set(sample) == {"image", "info"}
        assert sample["image"].shape[-2:] == (60, 80)
        assert batch_key(sample) == tuple(sample["image"].shape)


def test_views_of_different_sizes_are_in_different_batches():
    small, large = torch.zeros(3, 2, 2), torch.zeros(3, 4, 4)
    key = batch_key({"views": [{"image": small}, {"image": large}]})
    assert key == batch_key({"views": [{"image": small + 1}, {"image": large}]})
    assert key != batch_key({"views": [{"image": large}, {"image": large}]})


@pytest.mark.parametrize(("output", "what"), [(3, "int"), (torch.zeros(2, 2), r"\(2, 2\)")])
def test_a_classifiers_transform_must_return_an_image(output: object, what: str):
    with pytest.raises(ValueError, match=f"must return a tensor .*, got {what}"):
        prepare_image(Image.new("RGB", (4, 4)), "classification", lambda image: output)
