"""Tests of tools/export.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attnzoo import create_model
from attnzoo.tools import export

from ..zoo.export.models import MASK_RCNN, session

pytest.importorskip("onnxruntime")


def test_export_of_a_model_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "micro.onnx"
    assert export.main(["metaformer_micro", "--num-classes", "3", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["path"], report["outputs"]) == (str(out), ["logits"])
    assert report["error"] < 1e-4
    metadata = session(out).get_modelmeta().custom_metadata_map
    assert metadata["attnzoo.model"] == "metaformer_micro"
    assert json.loads(metadata["attnzoo.image_size"]) == [32, 32]
    assert json.loads(metadata["attnzoo.mean"]) == [0.485, 0.456, 0.406]


@pytest.mark.slow
def test_export_of_a_config_with_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(1)
    depths = "model.backbone.depths=1,1,1"
    weights = create_model("nat_mini", depths=(1, 1, 1), embed_dims=(32, 64, 96), num_heads=(1, 2, 3),
                           kernel_size=3, stem_stride=2, num_classes=10)  # fmt: skip
    torch.save(weights.state_dict(), tmp_path / "weights.pth")
    out = tmp_path / "digits.pt2"
    argv = ["nat_digits", "--weights", str(tmp_path / "weights.pth"), "--out", str(out), "--normalize"]
    assert export.main([*argv, "--cfg-options", depths]) == 0
    assert "digits.pt2: logits (torch.export" in capsys.readouterr().out
    images = torch.rand(2, 3, 32, 32) * 255
    (logits,) = torch.export.load(out).module()(images)
    expected = weights.eval()((images / 255 - 0.5) / 0.5)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nat_mimi"], "Did you mean"),
        (["nat_mini", "--out", "model.pb"], "--out must end with .onnx or .pt2, got model.pb."),
        (["nat_mini", "--out", "model.pt2", "--format", "onnx"], "--out must end with .onnx, got model.pt2."),
        (["metaformer_micro", "--part", "backbon"], "Unknown part 'backbon'. Did you mean 'backbone'"),
        (["metaformer_micro", "--part", "rpn"], "is a backbone and has no 'rpn'"),
        (["metaformer_micro", "--size", "1", "2", "3"], "--size takes one or two positive numbers"),
        (["metaformer_micro", "--cfg-options", "a=1"], "settings of a config"),
        (["nat_digits", "--pretrained"], "apply to a model's name"),
    ],
)
def test_user_errors(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert export.main(argv) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error


def test_out_indices_require_features_only():
    with pytest.raises(SystemExit):
        export.main(["nat_mini", "--out-indices", "1"])


def test_export_of_the_rpn_of_a_two_stage_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "detector.py"
    path.write_text(f"model = {MASK_RCNN!r}\n")
    argv = [str(path), "--size", "64", "--out", str(tmp_path / "rpn.pt2")]
    assert export.main(argv) == 2
    assert "These parts can be exported: part='rpn'" in capsys.readouterr().err
    assert export.main([*argv, "--part", "rpn", "--dynamic-size"]) == 0
    assert "cls_scores0, cls_scores1, bbox_preds0, bbox_preds1" in capsys.readouterr().out
    maps = torch.export.load(tmp_path / "rpn.pt2").module()(torch.randn(1, 3, 96, 128))
    assert [tuple(one.shape) for one in maps] == [(1, 3, 24, 32), (1, 3, 12, 16), (1, 12, 24, 32), (1, 12, 12, 16)]
