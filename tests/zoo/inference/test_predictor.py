"""attnzoo.Predictor on classifiers: how it is built, what it gives, and what it does with what it cannot read."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import attnzoo
from attnzoo import Predictor
from attnzoo.tools import test as test_tool
from attnzoo.zoo.config import load_config
from attnzoo.zoo.data.common.decoding import BrokenImageError
from attnzoo.zoo.inference import ClassificationResult
from attnzoo.zoo.inference.arrays import image_from_array
from attnzoo.zoo.inference.building import evaluation_transform
from attnzoo.zoo.inference.predictor import _less_elongated
from attnzoo.zoo.training import read_training_checkpoint
from support.tiny_classifier import BACKBONE, COLOURS

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


# -- The same as the evaluation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_predictions_are_those_of_the_evaluation(trained: Trained, images: Path, batch_size: int, tmp_path: Path):
    config, work_dir = trained
    assert test_tool.main([str(config), str(work_dir), "--work-dir", str(tmp_path)]) == 0
    expected = json.loads((tmp_path / "predictions.json").read_text())
    results = Predictor(work_dir, batch_size=batch_size)(images)
    assert len(results) == len(expected) == 9
    for result, entry in zip(results, expected, strict=True):
        assert result.path == entry["path"]
        guesses = result.to_dict()["predictions"]
        assert [guess["label"] for guess in guesses] == [guess["label"] for guess in entry["predictions"]]
        assert [guess["class"] for guess in guesses] == [guess["class"] for guess in entry["predictions"]]
        for guess, other in zip(guesses, entry["predictions"], strict=True):
            assert guess["score"] == pytest.approx(other["score"], abs=1e-6)


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


# -- What a predictor is built from ------------------------------------------------------------------------------------


def test_a_work_dir_and_its_config_with_its_checkpoint_are_the_same(trained: Trained, predictor: Predictor):
    config, work_dir = trained
    expected = predictor(NOISE).scores
    assert predictor.classes == tuple(COLOURS)
    assert predictor.kind == "classification"
    assert predictor.weights.endswith("best_top1.pth")
    for weights in (work_dir, work_dir / "best_top1.pth", read_training_checkpoint(work_dir / "best_top1.pth")):
        other = Predictor(config, weights)
        assert torch.equal(other(NOISE).scores, expected)
    assert Predictor(config, work_dir).classes == tuple(COLOURS)
    assert Predictor(load_config(config), work_dir).classes == tuple(COLOURS)
    assert Predictor(load_config(config).to_dict(), False).classes == ()


def test_names_come_from_the_config_where_it_tells(trained: Trained):
    config, work_dir = trained
    options = {"test_dataloader.dataset.class_map": ["a", "b", "c"]}
    assert Predictor(config, work_dir, cfg_options=options).classes == ("a", "b", "c")
    options = {"test_dataloader.dataset.class_map": ["n01440764", "n01443537", "n01484850"]}
    assert Predictor(config, False, cfg_options=options).classes == ("tench", "goldfish", "great white shark")
    options = {"test_dataloader.dataset.class_map": "gone.txt"}
    assert Predictor(config, work_dir, cfg_options=options).classes == tuple(COLOURS)
    assert Predictor(config, False)(NOISE).name in ("0", "1", "2")
    assert Predictor(config, False, classes=["x", "y", "z"]).classes == ("x", "y", "z")
    with pytest.raises(ValueError, match="classes has 2 names, the model has 3 classes"):
        Predictor(config, False, classes=["x", "y"])


def test_a_models_name_prepares_images_as_its_weights_want_it(tmp_path: Path):
    model = tiny_model()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "nat_mini", "model_args": {**BACKBONE, "num_classes": 3}})
    )
    predictor = Predictor(f"local-dir:{tmp_path}")
    assert predictor.weights == "published"
    cfg = model.pretrained_cfg
    transform = evaluation_transform(cfg)
    pixels = transform(Image.fromarray(NOISE)).float() / 255
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert pixels.shape == (3, 224, 224)
    with torch.no_grad():
        expected = model(((pixels - mean) / std)[None]).softmax(-1)[0]
    torch.testing.assert_close(predictor(NOISE).scores, expected, atol=1e-6, rtol=0)


def test_a_saved_model_brings_its_classes_names(tmp_path: Path):
    model = tiny_model()
    attnzoo.save_pretrained(model, tmp_path / "named", class_names=list(COLOURS))
    attnzoo.save_pretrained(model, tmp_path / "unnamed")
    predictor = Predictor(f"local-dir:{tmp_path / 'named'}")
    assert predictor.classes == tuple(COLOURS)
    assert predictor(NOISE).name in COLOURS
    assert Predictor(attnzoo.create_model(f"local-dir:{tmp_path / 'named'}")).classes == tuple(COLOURS)
    assert Predictor(f"local-dir:{tmp_path / 'unnamed'}").classes == ()


def test_a_larger_test_size_is_taken():
    cfg = {"input_size": (3, 160, 160), "test_input_size": (3, 192, 192), "crop_pct": 0.9, "test_crop_pct": 1.0}
    cfg |= {"interpolation": "bicubic", "mean": (0.5,) * 3}
    image = Image.fromarray(NOISE)
    assert evaluation_transform(cfg)(image).shape == (3, 192, 192)
    assert evaluation_transform({**cfg, "fixed_input_size": True})(image).shape == (3, 160, 160)


def test_published_classes_of_imagenet_have_names(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model(num_classes=1000)
    monkeypatch.setattr("attnzoo.zoo.inference.building.create_model", lambda name, **options: model)
    predictor = Predictor("nat_mini.in1k", transform={"type": "Evaluation", "size": 16})
    assert predictor.classes[2] == "great white shark"
    assert len(set(predictor.classes)) >= 998  # ImageNet has a class or two twice
    assert Predictor("nat_mini.in1k", weights=False, transform={"type": "Evaluation", "size": 16}).classes == ()


def test_a_module_and_a_transform():
    model = tiny_model()
    transform = {"type": "Evaluation", "size": 16}
    by_cfg = Predictor(model, transform=transform)(NOISE)
    assert by_cfg.scores.sum().item() == pytest.approx(1, abs=1e-5)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layer(image.mean((2, 3)))

    bare = Bare()

    def normalising(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1

    result = Predictor(bare, transform=normalising, classes=list("abcd"))(NOISE)
    expected = bare(normalising(Image.fromarray(NOISE))[None]).softmax(-1)[0]
    torch.testing.assert_close(result.scores, expected.detach(), atol=1e-6, rtol=0)
    assert result.name in "abcd"
    with pytest.raises(ValueError, match="needs a transform"):
        Predictor(bare)
    with pytest.raises(ValueError, match="let the transform give normalised floats"):
        Predictor(bare, transform=transform)(NOISE)
    with pytest.raises(ValueError, match="must give a tensor"):
        Predictor(bare, transform=lambda image: image)(NOISE)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nat_mni", {}, "Did you mean 'nat_mini'"),
        ("nat_mini.in2k", {}, "in1k"),
        ("nat_digits", {}, "is a config, which holds no weights"),
        ("{tmp}", {}, "has no config.py"),
        ("{tmp}/a.py", {}, "There is no file"),
        (3, {}, "not from a int"),
        ("nat_mini", {"weights": False, "device": "tpus"}, "There is no device 'tpus'"),
        ("nat_mini", {"weights": False, "device": "cuda:99"}, "torch sees [0-9]+ GPUs"),
        ("nat_mini", {"weights": False, "dtype": "int8"}, "There is no dtype 'int8'"),
        ("nat_mini", {"weights": False, "batch_size": 0}, "batch_size is a whole number"),
        ("nat_mini", {"weights": False, "on_error": "ignore"}, "There is no on_error 'ignore'"),
        ("nat_mini", {"weights": False, "cfg_options": ["a=1"]}, "cfg_options change a config"),
        ("nat_mini", {"weights": "gone.pth"}, "gone.pth"),
        ({"model": {"type": "Classifier", "backbone": {"type": "nat_mini"}}}, {"weights": False}, "give transform="),
        ({}, {"weights": False}, "has no `model`"),
    ],
)
def test_mistakes_in_building(model: object, options: dict, message: str, tmp_path: Path):
    model = model.format(tmp=tmp_path) if isinstance(model, str) else model
    with pytest.raises((ValueError, OSError), match=message):
        Predictor(model, **options)  # pyright: ignore[reportArgumentType]


def test_an_untrained_head_is_refused(trained: Trained):
    config, work_dir = trained
    with pytest.raises(ValueError, match="The weights' head has 3 outputs"):
        Predictor(config, work_dir, cfg_options={"model.backbone.num_classes": 5})


def test_weights_that_the_config_would_fetch_are_not_fetched(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    options = {"model.backbone.pretrained": True, "model.init_weights": "gone.pth"}
    predictor = Predictor(trained[0], trained[1], cfg_options=options)
    assert torch.equal(predictor(NOISE).scores, Predictor(trained[1])(NOISE).scores)


def test_names_of_another_number_of_classes_are_not_taken(trained: Trained, tmp_path: Path):
    copied = Path(shutil.copytree(trained[1], tmp_path / "copied"))
    (copied / "classes.json").write_text('["a", "b"]')
    assert Predictor(copied).classes == ()
    (copied / "classes.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match="must contain a list of names"):
        Predictor(copied)


def test_no_config_is_taken_out_of_a_checkpoint(trained: Trained, tmp_path: Path):
    copied = Path(shutil.copytree(trained[1], tmp_path / "copied"))
    (copied / "config.py").unlink()
    with pytest.raises(ValueError, match=r"has no config\.py"):
        Predictor(copied)


# -- Inputs ------------------------------------------------------------------------------------------------------------


def test_one_image_one_result_and_several_a_list(predictor: Predictor, images: Path):
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


def test_very_long_strips_are_cut_to_their_middle():
    strip = np.arange(3000, dtype=np.float64)[None] / 3000
    cut = _less_elongated(image_from_array(strip))
    assert cut.size == (100, 1)
    middle = np.asarray(cut)[0, :, 0].astype(int)
    assert np.array_equal(middle, np.asarray(_less_elongated(image_from_array(strip.T)))[:, 0, 0])
    assert abs(middle.mean() - 127.5) < 1
    usual = Image.new("RGB", (400, 4))
    assert _less_elongated(usual) is usual


def test_broken_images_are_skipped_and_told(predictor: Predictor, images: Path, tmp_path: Path):
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


def test_on_error_raise(trained: Trained, tmp_path: Path):
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


def test_progress(trained: Trained, images: Path, capsys: pytest.CaptureFixture[str]):
    quiet = Predictor(trained[1])
    quiet(images)
    assert capsys.readouterr().err == ""
    Predictor(trained[1], progress=True)(images)
    assert "9/9" in capsys.readouterr().err


# -- Precision ---------------------------------------------------------------------------------------------------------


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
