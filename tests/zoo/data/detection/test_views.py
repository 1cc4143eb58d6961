"""Views of an image: scales and flips, which leave the image itself unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnzoo.zoo.data.detection.annotated_image import AnnotatedImage
from attnzoo.zoo.data.detection.transforms import DetectionTest
from attnzoo.zoo.data.detection.views import DetectionViews
from attnzoo.zoo.registry import TRANSFORMS


@pytest.fixture
def sample() -> AnnotatedImage:
    pixels = np.random.RandomState(0).randint(0, 256, (30, 45, 3), dtype=np.uint8)
    return AnnotatedImage(pixels, (30, 45), boxes=np.array([[3.0, 4.0, 20.0, 21.0]]), labels=np.array([1]))


def test_every_scale_and_its_flip(sample: AnnotatedImage):
    before = sample.image.copy()
    transform = TRANSFORMS.build({"type": "DetectionViews", "scales": [(90, 60), (30, 45), (33, 1000)]})
    assert not transform.training
    views = transform(sample)["views"]
    assert [view["info"].image_size for view in views] == [(60, 90)] * 2 + [(30, 45)] * 2 + [(33, 50)] * 2
    assert [view["info"].flip for view in views] == [False, True] * 3
    for plain, mirrored in zip(views[::2], views[1::2], strict=True):
        assert torch.equal(mirrored["image"], plain["image"].flip(-1))
        assert plain["image"].shape == (3, *plain["info"].image_size)
        assert plain["info"].scale_factor == mirrored["info"].scale_factor
        assert plain["info"].original_size == (30, 45)
    assert views[4]["info"].scale_factor == (50 / 45, 33 / 30)
    assert (sample.image == before).all()
    assert (sample.boxes == [[3, 4, 20, 21]]).all()


def test_a_view_equals_the_result_of_the_plain_transform(sample: AnnotatedImage):
    (view,) = DetectionViews(scales=[(120, 70)], flip=False)(sample)["views"]
    plain = DetectionTest(scale=(120, 70))(sample)
    assert torch.equal(view["image"], plain["image"])
    assert view["info"] == plain["info"]


@pytest.mark.parametrize("scales", [[], [(100,)], [(100, 0)], [1333, 800]])
def test_impossible_scales_raise(scales: list):
    with pytest.raises(ValueError, match="scales"):
        DetectionViews(scales=scales)
