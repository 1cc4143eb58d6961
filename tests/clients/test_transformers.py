"""Transformers opens saved models with its wrapper of timm's models. It is in the extra `clients`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import attnzoo
from attnzoo.zoo.preprocessing import Preprocessing
from support.tiny_classifier import BACKBONE

pytestmark = pytest.mark.slow
IMAGES = Preprocessing(
    mean=(0.4, 0.3, 0.2),
    std=(0.3, 0.2, 0.1),
    input_size=(3, 96, 96),
    crop_pct=0.9,
    interpolation="bilinear",
    label_names=("a", "b", "c"),
)


@pytest.fixture(autouse=True)
def _outside_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers looks for a package `kernels` and would import our folder of that name."""
    root = Path(__file__).parents[2]
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path or ".").resolve() != root])


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 170, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = attnzoo.create_model("nat_mini", num_classes=3, **BACKBONE)
    IMAGES.write_to(model)
    attnzoo.register_in_timm()
    return attnzoo.save_pretrained(model, tmp_path_factory.mktemp("transformers") / "saved")


def test_scores_equal_ours(folder: Path, photo: Image.Image) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification  # pyright: ignore[reportMissingImports]  # an extra

    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    with torch.no_grad():
        scores = model(**processor(photo, return_tensors="pt")).logits.softmax(-1)[0]
    expected = attnzoo.Predictor(f"local-dir:{folder}")(photo).scores
    assert (scores - expected).abs().max() < 1e-5


def test_features(folder: Path, photo: Image.Image) -> None:
    from transformers import AutoImageProcessor, AutoModel  # pyright: ignore[reportMissingImports]  # an extra

    images = AutoImageProcessor.from_pretrained(folder)(photo, return_tensors="pt")
    with torch.no_grad():
        features = AutoModel.from_pretrained(folder).eval()(**images).last_hidden_state
        expected = attnzoo.create_model(f"local-dir:{folder}").eval().forward_features(images["pixel_values"])  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(features, expected)
