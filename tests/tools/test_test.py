"""End-to-end tests of tools/test.py on a tiny folder of images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from attnzoo import create_model
from attnzoo.tools import test as test_tool
from attnzoo.zoo.analysis.predictions import read_predictions
from attnzoo.zoo.folder_lock import RESULTS_LOCK
from attnzoo.zoo.training import read_scalars
from support.locks import lock_in_another_process
from support.tiny_classifier import BACKBONE, COLORS


def test_evaluation_writes_results_and_predictions(config: Path, trained: Path, tmp_path: Path):
    checkpoint = trained / "epoch_2.pth"
    arguments = [str(config), str(checkpoint), "--work-dir", str(tmp_path), "--confusion"]
    assert test_tool.main(arguments) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    validated = [record for record in read_scalars(trained) if record["mode"] == "val"][-1]
    assert results["top1"] == pytest.approx(validated["top1"])
    assert results["top2"] == pytest.approx(validated["top2"])
    assert results["images"] == 9
    assert results["checkpoint"] == str(checkpoint)
    assert results["model"] == "nat_mini"
    assert results["averaged_weights"] is True
    assert results["seconds"] > 0
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    predictions = read_predictions(tmp_path)
    assert len(predictions) == 9
    correct = sum(prediction.correct for prediction in predictions)
    assert 100 * correct / 9 == pytest.approx(results["top1"])
    assert {prediction.label_name for prediction in predictions} == set(COLORS)
    assert all(Path(prediction.path).is_file() for prediction in predictions)
    confusion = json.loads((tmp_path / "confusion.json").read_text())["confusion"]
    assert np.trace(np.array(confusion)) == correct


def test_two_evaluations_cannot_write_into_one_folder(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with lock_in_another_process(tmp_path, RESULTS_LOCK) as holder:
        assert test_tool.main([str(config), str(trained / "epoch_2.pth"), "--work-dir", str(tmp_path)]) == 2
    assert f"is in use by process {holder.pid}" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))


def test_raw_option_evaluates_the_trained_weights(config: Path, trained: Path, tmp_path: Path):
    arguments = [str(config), str(trained / "epoch_2.pth"), "--work-dir", str(tmp_path), "--raw"]
    assert test_tool.main([*arguments, "--out", str(tmp_path / "raw.json")]) == 0
    assert json.loads((tmp_path / "raw.json").read_text())["averaged_weights"] is False
    assert not (tmp_path / "results.json").exists()


def test_work_dir_selects_its_best_checkpoint(copied: Path):
    assert test_tool.find_checkpoint(str(copied)) == str(copied / "best_top1.pth")
    (copied / "best_top1.pth").unlink()
    assert test_tool.find_checkpoint(str(copied)) == str(copied / "epoch_2.pth")
    for path in copied.glob("*.pth"):
        path.write_bytes(b"cut off")
    with pytest.raises(ValueError, match="no intact checkpoint"):
        test_tool.find_checkpoint(str(copied))
    assert test_tool.find_checkpoint("hf-hub:owner/name") == "hf-hub:owner/name"


def test_damaged_checkpoint_is_a_user_error(
    config: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = copied / "epoch_2.pth"
    content = path.read_bytes()
    for place in (len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert test_tool.main([str(config), str(path), "--work-dir", str(tmp_path / "work")]) == 2
        error = capsys.readouterr().err
        assert f"error: {path} is damaged" in error
        assert "Traceback" not in error
        assert not (tmp_path / "work" / "results.json").exists()


def test_published_weights_without_a_network_are_a_user_error(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ATTNZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert test_tool.main([str(config), "--pretrained", "--work-dir", str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert "nat_mini.pth" in error
    assert "Traceback" not in error
    assert not (tmp_path / "work" / "results.json").exists()


def test_exactly_one_of_checkpoint_and_pretrained_is_required(config: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in ([str(config)], [str(config), "a.pth", "--pretrained"]):
        with pytest.raises(SystemExit) as exit_info:
            test_tool.main(arguments)
        assert exit_info.value.code == 2
        assert "pass either CHECKPOINT or --pretrained" in capsys.readouterr().err


def test_head_with_other_classes_is_rejected(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(create_model("nat_mini", num_classes=5, **BACKBONE).state_dict(), tmp_path / "five.pth")
    assert test_tool.main([str(config), str(tmp_path / "five.pth"), "--work-dir", str(tmp_path)]) == 2
    assert "head of the weights has 5 outputs, but the config's model has 3" in capsys.readouterr().err


def test_error_for_a_broken_image_names_the_file(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images = Path(shutil.copytree(config.parent / "images", tmp_path / "images"))
    (images / "val" / "green" / "1.png").write_bytes(b"not an image")
    arguments = [str(config), str(trained), "--work-dir", str(tmp_path / "work")]
    assert test_tool.main([*arguments, "--cfg-options", f"test_dataloader.dataset.root={images}"]) == 2
    assert "green/1.png" in capsys.readouterr().err
    assert not (tmp_path / "work" / "results.json").exists()


def test_missing_checkpoint_and_missing_test_data(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert test_tool.main([str(config), str(tmp_path / "nowhere.pth"), "--work-dir", str(tmp_path)]) == 2
    assert "nowhere.pth" in capsys.readouterr().err
    options = ["--cfg-options", "test_dataloader=none"]
    assert test_tool.main([str(config), "a.pth", "--work-dir", str(tmp_path), *options]) == 2
    assert "no test_dataloader" in capsys.readouterr().err
