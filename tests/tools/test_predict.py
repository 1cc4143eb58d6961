"""Tests of tools/predict.py with a tiny classifier."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.tools import predict
from attnzoo.zoo import inference
from attnzoo.zoo.folder_lock import RESULTS_LOCK, FolderLock
from attnzoo.zoo.inference import DetectionResult, Predictor, SegmentationResult
from support.tiny_classifier import COLORS, train_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def images(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0].parent / "images" / "val", tmp_path / "images"))


def run(*arguments: object) -> int:
    return predict.main([str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predictions_for_a_folder(
    trained: tuple[Path, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = contents(images)
    out = tmp_path / "out"
    assert run(images, "--config", trained[1], "--out", out, "--topk", 2, "--batch-size", 4) == 0
    assert contents(images) == before
    written = json.loads((out / "predictions.json").read_text())
    assert written["task"] == "classification"
    assert written["classes"] == list(COLORS)
    assert written["skipped"] == []
    assert len(written["predictions"]) == 9
    for entry, result in zip(written["predictions"], Predictor(trained[1])(images), strict=True):
        assert entry["path"] == result.path
        assert len(entry["predictions"]) == 2
        assert entry["predictions"][0]["score"] == pytest.approx(result.score, abs=1e-5)
        with Image.open(out / entry["picture"]) as picture:
            assert picture.format == "PNG"
            assert picture.size == result.draw(2).size
    # Images keep their relative paths, so that equal names in different folders do not collide.
    assert sorted(contents(out / "pictures")) == sorted(before)
    assert "9 images" in capsys.readouterr().out
    assert not list(out.rglob("*.tmp"))


def test_two_predictions_cannot_write_into_one_folder(
    trained: tuple[Path, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with FolderLock(tmp_path / "out", RESULTS_LOCK, ""):
        assert run(images, "--config", trained[1], "--out", tmp_path / "out") == 2
    assert "Wait for it, or choose another --out." in capsys.readouterr().err


def test_equal_file_names_do_not_collide(trained: tuple[Path, Path], images: Path, tmp_path: Path):
    files = [images / "red" / "0.png", images / "blue" / "0.png", images / "green" / "0.png"]
    shutil.copy(files[0], files[0].with_suffix(".jpg"))
    out = tmp_path / "out"
    assert run(*files, files[0].with_suffix(".jpg"), "--config", trained[1], "--out", out) == 0
    assert sorted(contents(out / "pictures")) == ["0.png", "0_2.png", "0_3.png", "0_4.png"]


def test_inputs_are_not_overwritten(trained: tuple[Path, Path], images: Path):
    # The images are where the images with predictions would be written.
    work = images.parent
    images.rename(work / "pictures")
    before = contents(work / "pictures")
    assert run(work / "pictures", "--config", trained[1], "--out", work) == 0
    after = contents(work / "pictures")
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)
    (work / "predictions.json").write_text("mine")
    assert run(work / "pictures", work / "predictions.json", "--config", trained[1], "--out", work) == 2
    assert (work / "predictions.json").read_text() == "mine"


def test_no_pictures_option(trained: tuple[Path, Path], images: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run(images / "red", "--config", trained[0], "--weights", trained[1], "--out", out, "--no-pictures") == 0
    assert list(contents(out)) == ["predictions.json"]


def test_broken_files_are_reported_and_listed(
    trained: tuple[Path, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (images / "red" / "1.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert run(images, "--config", trained[1], "--out", out, "--no-pictures") == 0
    captured = capsys.readouterr()
    assert "skipped: " in captured.err
    assert "1 skipped" in captured.out
    written = json.loads((out / "predictions.json").read_text())
    assert len(written["predictions"]) == 8
    (skipped,) = written["skipped"]
    assert skipped["name"] == str(images / "red" / "1.png")
    out = tmp_path / "none"
    assert run(images / "red" / "1.png", "--config", trained[1], "--out", out) == 2
    assert "None of the images could be read" in capsys.readouterr().err
    assert not (out / "predictions.json").exists()


def test_failed_write_keeps_the_previous_file(
    trained: tuple[Path, Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    assert run(images, "--config", trained[1], "--out", out, "--no-pictures") == 0
    before = (out / "predictions.json").read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    assert run(images / "red", "--config", trained[1], "--out", out, "--no-pictures") == 2
    assert contents(out) == {"predictions.json": before}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png", "--model", "nat_mini"], "There is no file or folder 'nowhere.png'"),
        (["{images}/*.gif", "--model", "nat_mini"], "matches no file"),
        (["{images}", "--model", "nat_mni"], "Did you mean 'nat_mini'"),
        (["{images}", "--config", "{images}"], "has no config.py"),
        (["{images}", "--config", "{config}"], "has no weights"),
        (["{images}", "--config", "{config}", "--weights", "gone.pth"], "gone.pth"),
        (["{images}", "--config", "{work_dir}", "--out", "{config}"], "--out must be a folder, got the file "),
        (["{images}", "--config", "{work_dir}", "--topk", "0"], "topk must be an integer >= 1"),
        (["{images}", "--config", "{work_dir}", "--device", "tpus"], "There is no device"),
        (
            ["{images}", "--config", "{work_dir}", "--score-threshold", "30"],
            "--score-threshold must be between 0 and 1, got 30.0.",
        ),
        (["{images}", "--config", "{work_dir}", "--label-maps"], "--label-maps needs a segmentation model, but "),
    ],
)
def test_user_errors(
    arguments: list[str],
    message: str,
    trained: tuple[Path, Path],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    paths = {"images": images, "config": trained[0], "work_dir": trained[1]}
    assert run(*(argument.format(**paths) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_exactly_one_of_model_and_config_is_required(capsys: pytest.CaptureFixture[str]):
    for arguments in (["a.png"], ["a.png", "--model", "a", "--config", "b"]):
        with pytest.raises(SystemExit) as raised:
            run(*arguments)
        assert raised.value.code == 2
    assert "--model" in capsys.readouterr().err


class FakePredictor:
    """A predictor that returns fixed objects or label maps."""

    name, weights, classes, skipped = "fake", "none", ("cat", "dog"), []

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def stream(self, inputs: list[str], progress: bool | None = None) -> Any:
        common: dict[str, Any] = {"size": (20, 30), "classes": self.classes, "kept_image": Image.new("RGB", (30, 20))}
        common["path"] = inputs[0]
        if self.kind == "segmentation":
            yield SegmentationResult(label_map=torch.eye(20, 30, dtype=torch.int64), **common)
        else:
            boxes = torch.tensor([[1.0, 2.0, 9.0, 9.0], [4.0, 4.0, 8.0, 8.0]])
            yield DetectionResult(boxes=boxes, labels=torch.tensor([1, 0]), scores=torch.tensor([0.8, 0.4]), **common)


def test_detections_above_the_threshold_are_written(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inference, "Predictor", lambda *_, **__: FakePredictor("detection"))
    for threshold, count in ((0.3, 2), (0.5, 1)):
        file = images / "red" / "0.png"
        assert run(file, "--config", "any", "--out", tmp_path / "out", "--score-threshold", threshold) == 0
        (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
        assert len(entry["detections"]) == count
        assert entry["detections"][0]["class"] == "dog"


def test_label_maps_are_written(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inference, "Predictor", lambda *_, **__: FakePredictor("segmentation"))
    file = images / "red" / "0.png"
    assert run(file, "--config", "any", "--out", tmp_path / "out", "--label-maps") == 0
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert [region["class"] for region in entry["regions"]] == ["cat", "dog"]
    with Image.open(tmp_path / "out" / entry["label_map"]) as image:
        assert np.array_equal(np.asarray(image), np.eye(20, 30))
