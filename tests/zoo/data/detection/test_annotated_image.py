import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnzoo.zoo.data import (
    CocoDetection,
    DetectionTest,
)
from attnzoo.zoo.data.detection import annotated_image
from attnzoo.zoo.data.detection.annotated_image import AnnotatedImage, AxisAlignedAffine
from support import painted_coco


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return painted_coco.save(tmp_path_factory.mktemp("coco"))


def dataset(root, transform, **options):
    return CocoDetection(str(root), "train2017", transform=transform, **options)


def test_flipping_and_cropping_is_exact(root):
    made = painted_coco.content()
    data = dataset(root, DetectionTest(), filter_empty=True)
    generator = np.random.default_rng(1)
    for index in (0, 1, 2) * 10:
        sample = data.load(index)
        crowd = np.array([one["iscrowd"] for one in painted_coco.instances(made, int(data.image_ids[index]))])
        colors = np.array(painted_coco.COLORS)[: len(crowd)][crowd == 0]
        color_of = dict(enumerate(colors))
        assert sample.labels is not None
        sample.labels = np.arange(len(colors))
        for _ in range(3):
            height, width = sample.size
            crop_height, crop_width = generator.integers(height // 2, height + 1), generator.integers(20, width + 1)
            top, left = generator.integers(0, height - crop_height + 1), generator.integers(0, width - crop_width + 1)
            sample.crop(int(top), int(left), int(crop_height), int(crop_width))
            if generator.random() < 0.5:
                sample.hflip()
        packed = sample.pack()
        pixels = packed["image"].permute(1, 2, 0).numpy()
        target = packed["target"]
        for label, mask in zip(target.labels.tolist(), target.masks.numpy(), strict=True):
            painted = (pixels == color_of[label]).all(-1)
            if sample.affine.scale_x > 0 or data.image_ids[index] != 11:
                np.testing.assert_array_equal(mask, painted)
            else:  # COCO's rasterizer is not symmetric
                assert (mask != painted).sum() <= 2 * (mask.shape[0] + mask.shape[1])
        shown = {tuple(color) for color in pixels.reshape(-1, 3)} & {tuple(color) for color in colors}
        assert shown <= {tuple(color_of[label]) for label in target.labels.tolist()}


@given(
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 30)), min_size=3, max_size=6),
    st.integers(0, 25),
    st.integers(0, 15),
)
def test_a_cropped_polygon_equals_the_cropped_bitmap(points, left, top):
    polygon = np.round(np.array(points), 2)
    segmentation = [polygon.ravel().tolist()]
    whole = painted_coco.bitmap(segmentation, 30, 40)
    shape = [polygon]
    sample = AnnotatedImage(np.zeros((30, 40, 3), np.uint8), (30, 40), segmentations=[shape])
    np.testing.assert_array_equal(sample.masks()[0], whole)
    sample.crop(top, left, 30 - top, 40 - left)
    np.testing.assert_array_equal(sample.masks()[0], whole[top:, left:])


def test_affine_maps_compose():
    affine = AxisAlignedAffine().then(2.0, 3.0, 1.0, -1.0).then(-1.0, 1.0, 10.0, 0.0)
    assert (affine.scale_x * 4 + affine.shift_x, affine.scale_y * 5 + affine.shift_y) == (1.0, 14.0)


def test_a_second_flip_undoes_the_first():
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    sample = AnnotatedImage(pixels, (3, 4), boxes=np.array([[0.0, 0, 3, 2]]), labels=np.array([0]))
    for flip, box in ((True, [1, 0, 4, 2]), (False, [0, 0, 3, 2])):
        sample.hflip()
        assert sample.boxes is not None
        assert sample.boxes.tolist() == [box]
        assert sample.info().flip == flip
    np.testing.assert_array_equal(sample.image, pixels)


def test_a_bitmap_is_resampled_by_the_nearest_pixel():
    bitmap = np.random.default_rng(0).integers(0, 2, (7, 9)).astype(np.uint8)
    sample = AnnotatedImage(np.zeros((7, 9, 3), np.uint8), (7, 9), segmentations=[bitmap])
    sample.resize(21, 27)
    np.testing.assert_array_equal(sample.masks()[0], np.kron(bitmap, np.ones((3, 3))))
    sample.resize(7, 9)
    np.testing.assert_array_equal(sample.masks()[0], bitmap)


@pytest.mark.parametrize("with_masks", [True, False])
def test_thin_boxes_are_dropped_with_labels_and_masks(with_masks):
    mask = np.zeros((40, 40), np.uint8)
    mask[:, :20] = 1
    masks = [mask, 1 - mask, mask]
    sample = AnnotatedImage(
        np.zeros((40, 40, 3), np.uint8),
        (40, 40),
        boxes=np.array([[0, 0, 20, 40], [20, 0, 40, 40], [0, 0, 20, 40]], dtype=float),
        labels=np.array([4, 5, 6]),
        segmentations=list(masks) if with_masks else None,
        ignored_boxes=np.array([[0, 0, 5, 5], [30, 30, 40, 40]], dtype=float),
    )
    sample.resize(20, 20)
    sample.crop(0, 9, 20, 11)
    sample.resize(10, 5)  # less than half a pixel of the first and the third remains
    target = sample.pack()["target"]
    assert target.labels.tolist() == [5]
    assert len(target.boxes) == 1
    if with_masks:
        assert target.masks.shape == (1, 10, 5)
    assert len(target.ignored_boxes) == 1


def test_an_instance_with_an_empty_mask_is_dropped():
    ring = painted_coco.disc(60, 60, 30, 30, 25, 20)
    sample = AnnotatedImage(
        np.zeros((60, 60, 3), np.uint8),
        (60, 60),
        boxes=np.array([[5.0, 5, 55, 55], [20, 20, 40, 40]]),
        labels=np.array([0, 1]),
        segmentations=[ring, painted_coco.disc(60, 60, 30, 30, 8)],
    )
    sample.crop(20, 20, 20, 20)  # inside of the ring
    target = sample.pack()["target"]
    assert target.labels.tolist() == [1]
    assert len(target.masks) == len(target.boxes) == 1


def test_old_names_warn():
    with pytest.warns(DeprecationWarning, match="Placement is now called AxisAlignedAffine"):
        assert annotated_image.Placement is AxisAlignedAffine
