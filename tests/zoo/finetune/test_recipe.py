"""The config of a fine-tuning: for each task, it passes the checks of tools/train.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.config import check_config
from attnzoo.zoo.config.options import apply_options
from attnzoo.zoo.finetune.options import Options
from attnzoo.zoo.finetune.recipe import build_recipe
from attnzoo.zoo.finetune.recognize import OwnData, recognize
from support.own_data import class_folders, coco, label_maps, write_image


def recipe(model: str, root: Path, work_dir: Path, **choices: Any):
    cfg, settings = build_recipe(model, recognize(root), Options(**choices), work_dir)
    apply_options(cfg, {})
    check_config(cfg)
    return cfg, settings


def test_a_classifier_uses_the_preprocessing_of_its_weights(tmp_path: Path):
    class_folders(tmp_path / "photos", 6)
    cfg, settings = recipe("van_b0", tmp_path / "photos", tmp_path / "out", image_size=96)
    assert cfg.model.backbone == {"type": "van_b0", "pretrained": True, "num_classes": 2}
    assert cfg.model.data_preprocessor == {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    transform = cfg.val_dataloader.dataset.transform
    assert (transform.size, transform.crop_pct, transform.interpolation) == (96, 0.9, "bicubic")
    assert (tmp_path / "out" / "data" / "val.txt").read_text().splitlines()[0].endswith(" 0")
    assert cfg.optim_wrapper.paramwise_cfg == {"layer_decay_rate": 0.75}
    assert settings.epochs == cfg.train_cfg.max_epochs


def test_folders_of_splits_are_used_as_they_are(tmp_path: Path):
    root = class_folders(tmp_path / "photos", 2, ["train", "val"])
    cfg, _ = recipe("van_b0", root, tmp_path / "out", weights="none")
    assert cfg.train_dataloader.dataset.split == "train"
    assert cfg.model.backbone.pretrained is False
    assert not (tmp_path / "out").exists()


def test_probes_and_frozen_stages(tmp_path: Path):
    root = class_folders(tmp_path / "photos", 6)
    cfg, _ = recipe("nat_mini", root, tmp_path / "out", probe="efficient")
    assert (cfg.model.type, cfg.model.probe.type, cfg.model.probe.num_classes) == ("Probe", "EfficientProbe", 2)
    (tmp_path / "my.pth").touch()
    cfg, _ = recipe("nat_mini", root, tmp_path / "out", freeze=2, weights=tmp_path / "my.pth")
    assert (cfg.model.frozen_stages, cfg.model.init_weights) == (2, str(tmp_path / "my.pth"))


@pytest.mark.parametrize(
    ("model", "head"),
    [("nat_mini", "roi_head"), ("eca_resnet18", "roi_head"), ("davit_tiny_retinanet_1x_coco", "bbox_head")],
)
def test_detectors(tmp_path: Path, model: str, head: str):
    root = coco(tmp_path / "fish", ["train"], 10)
    cfg, _ = recipe(model, root, tmp_path / "out", weights="none")
    assert cfg.model[head].num_classes == 2
    assert cfg.default_hooks.checkpoint.save_best == ("segm_mAP" if head == "roi_head" else "bbox_mAP")
    assert (tmp_path / "out" / "data" / "instances_val.json").is_file()


def test_boxes_alone_remove_the_mask_head(tmp_path: Path):
    write_image(tmp_path / "fish" / "images" / "a.jpg")
    (tmp_path / "fish" / "data.yaml").write_text("names: [fish]\ntrain: images\n")
    (tmp_path / "fish" / "labels").mkdir()
    (tmp_path / "fish" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    cfg, _ = recipe("nat_mini_mask-rcnn_3x_coco", tmp_path / "fish", tmp_path / "out", weights="none")
    assert cfg.model.roi_head.mask_head is None
    assert cfg.val_evaluator.iou_types == ("bbox",)
    cfg, _ = recipe("van_b0", tmp_path / "fish", tmp_path / "out", weights="none")
    assert cfg.model.type == "SingleStageDetector"


def test_segmentors(tmp_path: Path):
    root = label_maps(tmp_path / "maps", ["train", "val"])
    cfg, _ = recipe("van_b0", root, tmp_path / "out", weights="none")
    assert cfg.model.decode_head.num_classes == 2
    cfg, _ = recipe("nat_mini_upernet_160k_ade20k", root, tmp_path / "out", weights="none")
    assert cfg.model.auxiliary_head.num_classes == 2
    assert cfg.val_dataloader.dataset.labels == "masks/val"


def test_what_does_not_fit_is_refused(tmp_path: Path):
    photos = recognize(class_folders(tmp_path / "photos", 6))
    fish = recognize(coco(tmp_path / "fish"))
    cases: list[tuple[str, OwnData, dict[str, Any], str]] = [
        ("nat_mny", photos, {}, r"Unknown model 'nat_mny'. Did you mean 'nat_tiny' or 'nat_mini'"),
        (
            "nat_mini_mask-rcnn_3x_coco",
            photos,
            {},
            r"is a config for detection, but .* is a data set for classification",
        ),
        ("nat_mini", fish, {"probe": "linear"}, r"A probe classifies images"),
        ("metaformer_s12", photos, {}, r"no published weights for metaformer_s12. Pass weights"),
    ]
    for model, own, choices, message in cases:
        with pytest.raises(ValueError, match=message):
            build_recipe(model, own, Options(**choices), tmp_path / "out")
