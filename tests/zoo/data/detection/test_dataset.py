import numpy as np
import pytest

from attnzoo.zoo.data import (
    DetectionDataset,
)
from attnzoo.zoo.data.detection.annotated_image import AnnotatedImage


class Boxes(DetectionDataset):
    """One image with one object."""

    def __init__(self, file, **options):
        self.file = file
        super().__init__(file, ("thing",), **options)

    def __len__(self):
        return 1

    def path(self, index):
        return self.file

    def load(self, index):
        image = np.asarray(self.read_image(index))
        return AnnotatedImage(
            image, (image.shape[0], image.shape[1]), np.array([[2.0, 3.0, 22.0, 13.0]]), np.array([0])
        )


@pytest.fixture
def file(tmp_path, make_image):
    make_image(0).save(tmp_path / "0.png")
    return str(tmp_path / "0.png")


def test_a_minimal_data_set(file):
    train = Boxes(file, transform={"type": "DetectionTrain", "scales": [(80, 60)], "flip": 0.0})
    sample = train[0]
    assert sample["image"].shape == (3, 60, 80)
    np.testing.assert_allclose(sample["target"].boxes, [[4, 6, 44, 26]])
    assert (sample["image_id"], train.kind) == (0, "detection")
    evaluation = Boxes(file, transform={"type": "DetectionTest", "scale": (80, 60)})
    assert evaluation[0]["target"] is None
    assert evaluation.load(0).boxes is not None
