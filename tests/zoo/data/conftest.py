import numpy as np
import pytest
from PIL import Image


def random_image(seed, width=40, height=30, mode="RGB"):
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def make_image():
    return random_image


@pytest.fixture
def make_folder(tmp_path):
    """Writes one folder of small images per class; returns the folder above them."""

    def make(name="images", classes=("cat", "dog"), count=3, suffix=".png"):
        root = tmp_path / name
        for label, class_name in enumerate(classes):
            (root / class_name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                random_image(1000 * label + number).save(root / class_name / f"{number}{suffix}")
        return root

    return make
