"""attnzoo.Predictor on classifiers: its results equal the evaluation's, for every kind of input."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import attnzoo
from attnzoo import Predictor
from attnzoo.tools import test as test_tool
from attnzoo.zoo.data.common.decoding import BrokenImageError
from attnzoo.zoo.inference import ClassificationResult
from support.tiny_classifier import BACKBONE

Trained = tuple[Path, Path]
NOISE = np.random.default_rng(1).integers(0, 256, (18, 25, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def predictor(trained: Trained) -> Predictor:
    return Predictor(trained[1], progress=False)


@pytest.fixture
def images(trained: Trained) -> Path:
    return trained[0].parent / "images" / "val"


def tiny_model(**options: Any) -> Any:
    torch.manual_seed(0)
    return attnzoo.create_model("nat_mini", **{**BACKBONE, "num_classes": 3, **options}).eval()


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_predictions_equal_the_evaluations(trained: Trained, images: Path, batch_size: int, tmp_path: Path):
    config, work_dir = trained
    assert test_tool.main([str(config), str(work_dir), "--work-dir", str(tmp_path)]) == 0
    expected = json.loads((tmp_path / "predictions.json").read_text())
    results = Predictor(work_dir, batch_size=batch_size)(images)
    assert len(results) == len(expected) == 9
    for result, entry in zip(results, expected, strict=True):
        assert result.path == entry["path"]
        predictions = result.to_dict()["predictions"]
        assert [prediction["label"] for prediction in predictions] == [
            prediction["label"] for prediction in entry["predictions"]
        ]
        assert [prediction["class"] for prediction in predictions] == [
            prediction["class"] for prediction in entry["predictions"]
        ]
        for prediction, other in zip(predictions, entry["predictions"], strict=True):
            assert prediction["score"] == pytest.approx(other["score"], abs=1e-6)


def test_the_batch_size_does_not_change_results(trained: Trained):
    # Without a crop to one size, images go through the model in groups.
    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)

    arrays = [NOISE, NOISE[:, :17], NOISE[2:], NOISE[:, 3:20], NOISE + 1]
    one = Predictor(trained[1], transform=transform, batch_size=1)(arrays)
    many = Predictor(trained[1], transform=transform, batch_size=8)(arrays)
    assert [result.index for result in many] == [0, 1, 2, 3, 4]
    for first, second in zip(one, many, strict=True):
        torch.testing.assert_close(first.scores, second.scores, atol=1e-5, rtol=0)
    assert not torch.equal(one[0].scores, one[1].scores)


def test_one_image_returns_a_result_and_several_a_list(predictor: Predictor, images: Path):
    path = images / "red" / "0.png"
    result = predictor(path)
    assert isinstance(result, ClassificationResult)
    assert result.path == str(path)
    assert result.size == (20, 20)
    assert result.image.size == (20, 20)
    assert result.kept_image is None
    with Image.open(path) as image:
        array = np.asarray(image)
        others = [predictor(image), predictor(array), predictor(torch.from_numpy(array.copy()).permute(2, 0, 1))]
    others += predictor([str(path)]) + predictor(array[None]) + list(predictor.stream(path))
    assert len(others) == 6
    for other in others:
        torch.testing.assert_close(other.scores, result.scores, atol=1e-6, rtol=0)
        assert np.array_equal(np.asarray(other.image), array)
    assert predictor([]) == []


@pytest.mark.parametrize(
    "image",
    [Image.new("RGB", (1, 1)), Image.new("L", (3000, 1), 9), Image.new("RGBA", (2, 900)), Image.new("CMYK", (5, 5))],
    ids=["1x1", "wide", "high", "cmyk"],
)
def test_images_of_any_size_and_mode(predictor: Predictor, image: Image.Image):
    result = predictor(image)
    assert torch.isfinite(result.scores).all()
    assert result.size == (image.height, image.width)
    assert result.draw().width >= 96


def test_broken_images_are_skipped_with_a_warning(predictor: Predictor, images: Path, tmp_path: Path):
    good = images / "red" / "0.png"
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:60])
    with pytest.warns(UserWarning, match=r"2 of 4 inputs could not be read and were skipped: .*bad\.jpg"):
        results = predictor([good, bad, tmp_path / "gone.jpg", good])
    assert [result.index for result in results] == [0, 3]
    assert [(one.index, Path(one.name).name) for one in predictor.skipped] == [(1, "bad.jpg"), (2, "gone.jpg")]
    assert "There is no file" in predictor.skipped[1].reason
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(predictor([good])) == 1
    assert predictor.skipped == []
    with pytest.raises(BrokenImageError, match=r"bad\.jpg"):
        predictor(bad)
    with pytest.raises(ValueError, match="There is no file"):
        predictor(tmp_path / "gone.jpg")


def test_broken_images_can_raise(trained: Trained, tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(BrokenImageError, match=r"bad\.jpg"):
        Predictor(trained[1], on_error="raise")([NOISE, tmp_path / "bad.jpg"])


def test_iterators_are_streamed(trained: Trained):
    predictor = Predictor(trained[1], batch_size=2)
    taken = []

    def camera():
        for number in range(100):
            taken.append(number)
            yield NOISE

    stream = predictor.stream(camera())
    assert next(stream).index == 0
    assert taken == [0, 1]
    assert [next(stream).index for _ in range(2)] == [1, 2]
    assert taken == [0, 1, 2, 3]
    stream.close()
    assert len(predictor(NOISE for _ in range(5))) == 5


def test_images_are_kept_on_demand(trained: Trained, images: Path):
    (result,) = Predictor(trained[1], keep_images=True)([images / "red" / "0.png"])
    assert result.kept_image is not None


def test_the_progress_bar_is_shown_on_request(trained: Trained, images: Path, capsys: pytest.CaptureFixture[str]):
    quiet = Predictor(trained[1])
    quiet(images)
    assert capsys.readouterr().err == ""
    Predictor(trained[1], progress=True)(images)
    assert "9/9" in capsys.readouterr().err


def test_precision_and_memory_format(trained: Trained):
    expected = Predictor(trained[1])(NOISE).scores
    half = Predictor(trained[1], dtype="bfloat16")(NOISE).scores
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected)
    torch.testing.assert_close(half, expected, atol=0.05, rtol=0)
    assert torch.equal(Predictor(trained[1], dtype=torch.float32)(NOISE).scores, expected)
    last = Predictor(trained[1], channels_last=True)
    assert any(
        parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
        for parameter in last.task.parameters()
        if parameter.ndim == 4
    )
    torch.testing.assert_close(last(NOISE).scores, expected, atol=1e-5, rtol=0)


def test_results_are_ordinary_tensors_of_a_model_in_evaluation_mode(predictor: Predictor):
    predictor.task.train()
    result = predictor(NOISE)
    assert not predictor.task.training
    assert not result.scores.is_inference()
    assert not result.scores.requires_grad
