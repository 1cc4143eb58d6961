import numpy as np
import pytest
import torch

from attnzoo.zoo.data import (
    AlbumentationsDetection,
    CocoDetection,
    DetectionSteps,
    DetectionTest,
    DetectionTrain,
    SampleKey,
)
from attnzoo.zoo.data.detection.annotated_image import AnnotatedImage
from support import painted_coco

ROTATION = {
    "type": "AlbumentationsDetection",
    "transforms": [{"type": "Affine", "rotate": (-40, 40), "fill": 128, "p": 1}],
    "boxes_from_masks": True,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return painted_coco.save(tmp_path_factory.mktemp("coco"))


def dataset(root, transform, **options):
    return CocoDetection(str(root), "train2017", transform=transform, **options)


def test_albumentations_draws_new_numbers_for_every_sample(root):
    data = dataset(root, ROTATION)
    first = data[SampleKey(0, 0)]["image"]
    assert torch.equal(first, data[SampleKey(0, 0)]["image"])
    assert not torch.equal(first, data[SampleKey(1, 0)]["image"])
    assert not torch.equal(first, data[SampleKey(0, 0, 1)]["image"])


def test_pixel_level_transforms_do_not_create_bitmaps(root, monkeypatch):
    transform = {"type": "AlbumentationsDetection", "transforms": [{"type": "HueSaturationValue", "p": 1.0}]}
    transform["transforms"].append({"type": "OneOf", "transforms": [{"type": "GaussianBlur"}]})
    data = dataset(root, transform)
    sample = data.load(0)
    before = sample.image.copy()
    monkeypatch.setattr(AnnotatedImage, "masks", lambda self: pytest.fail("bitmaps"))
    AlbumentationsDetection(transform["transforms"]).apply(sample)
    assert not np.array_equal(sample.image, before)


def test_samples_without_masks_or_instances(root):
    flip = [{"type": "HorizontalFlip", "p": 1.0}]
    sample = dataset(root, AlbumentationsDetection(flip), with_masks=False)[0]
    plain = dataset(root, DetectionTest(), filter_empty=True).load(0)
    assert plain.boxes is not None
    mirrored = 160 - plain.boxes[:, [2, 0]]
    np.testing.assert_allclose(sample["target"].boxes[:, [0, 2]].numpy(), mirrored, atol=1e-3)
    assert sample["target"].masks is None
    empty = dataset(root, AlbumentationsDetection(flip), filter_empty=False)[3]["target"]
    assert empty.masks.shape == (0, 64, 64)
    image_alone = AlbumentationsDetection(flip)(AnnotatedImage(np.zeros((20, 30, 3), np.uint8), (20, 30)))
    assert image_alone["target"] is None


def test_albumentations_updates_the_scale_factor(root):
    resize = [{"type": "Resize", "height": 240, "width": 80}]
    steps = DetectionSteps([DetectionTrain(scales=[(80, 60)], flip=0.0), AlbumentationsDetection(resize)])
    info = dataset(root, steps)[0]["info"]
    assert info.image_size == (240, 80)
    assert info.scale_factor == (0.5, 2.0)


def test_normalizing_transforms_raise():
    transform = AlbumentationsDetection([{"type": "Normalize"}])
    with pytest.raises(ValueError, match="leave out Normalize"):
        transform(AnnotatedImage(np.zeros((20, 30, 3), np.uint8), (20, 30)))
