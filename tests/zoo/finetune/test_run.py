"""Fine-tuning from a folder to a predictor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import attnzoo
from attnzoo.zoo.finetune.run import default_work_dir, prepare
from attnzoo.zoo.weights import DownloadError
from support.own_data import class_folders, coco, label_maps

SMALL_CLASSIFIER = [
    "model.backbone.depths=[1,1]",
    "model.backbone.embed_dims=[16,32]",
    "model.backbone.stem_stride=2",
    "model.backbone.head_dim=8",
    "val_dataloader.num_workers=0",
]
CHOICES: dict[str, Any] = {"weights": "none", "workers": 0, "patience": 0}
DENSE = {
    "detection": [
        "model.backbone.depths=[1,1,1,1]",
        "model.backbone.embed_dims=[8,8,16,16]",
        "model.backbone.mlp_ratios=[2,2,2,2]",
        "model.neck.out_channels=16",
        "model.rpn_head.feat_channels=16",
        "model.roi_head.bbox_head.fc_channels=16",
        "model.roi_head.mask_head.num_convs=1",
    ],
    "segmentation": [
        "model.backbone.depths=[1,1,1,1]",
        "model.backbone.embed_dims=[8,8,16,16]",
        "model.backbone.mlp_ratios=[2,2,2,2]",
        "model.neck.out_channels=16",
        "model.decode_head.channels=16",
    ],
}


def test_photos_become_a_predictor(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root, work_dir = class_folders(tmp_path / "photos", 10), tmp_path / "out"
    options = {"epochs": 8, "batch_size": 8, "lr": 3e-3, "image_size": 24, **CHOICES}
    predictor = attnzoo.finetune("metaformer_micro", root, work_dir, cfg_options=SMALL_CLASSIFIER, **options)
    assert predictor.classes == ("blue", "red")
    assert [predictor(root / name / "3.png").name for name in ("red", "blue")] == ["red", "blue"]
    printed = capsys.readouterr().out
    assert "2 classes (blue, red); images: 16 train, 4 val" in printed
    assert f"attnzoo predict photo.jpg --config {work_dir}" in printed
    assert json.loads((work_dir / "results.json").read_text())["top1"] == 100
    for name in ("config.py", "learning_curve.png", "confusion.png", "predictions.png", "best_top1.pth"):
        assert (work_dir / name).is_file(), name

    # Going on with more epochs takes the config of the work dir, not new choices.
    cfg = prepare("metaformer_micro", root, work_dir, resume=True, cfg_options=["train_cfg.max_epochs=9"])
    assert (cfg.resume, cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr) == (True, 9, 3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DENSE)
def test_dense_tasks_from_data_to_predictor(kind: str, tmp_path: Path):
    root = coco(tmp_path / "data", ["train"], 12) if kind == "detection" else label_maps(tmp_path / "data", count=12)
    options = {"epochs": 1, "batch_size": 2, "image_size": 64, **CHOICES}
    predictor = attnzoo.finetune("van_b0", root, tmp_path / "out", cfg_options=DENSE[kind], **options)
    assert predictor.kind == kind
    assert predictor.classes == (("crab", "fish") if kind == "detection" else ("0", "1"))
    assert (tmp_path / "out" / "predictions.png").is_file()


def test_the_default_work_dir_names_model_and_data(tmp_path: Path):
    assert default_work_dir("nat_mini.in1k", "/data/my photos/") == Path("work_dirs/nat_mini.in1k_my-photos")


def test_without_a_network_the_message_says_what_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from attnzoo.zoo import factory

    def fail(*args: Any, **kwargs: Any):
        raise DownloadError("There is no network.")

    monkeypatch.setattr(factory, "_load_published", fail)
    with pytest.raises(
        DownloadError, match=r"no network.\nOr pass the path of a checkpoint as weights, or weights='none'"
    ):
        attnzoo.finetune("nat_mini", class_folders(tmp_path / "photos"), tmp_path / "out", epochs=1)
