"""Configs of detectors and segmentors: what cannot work is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.config import ConfigError, check_config, load_config

DETECTOR = "quickstart/nat_mask-rcnn_scenes"
SEGMENTOR = "nat/nat_mini_upernet_160k_ade20k"
TINY = ["model.backbone.depths=[1,1,1,1]"]


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        (DETECTOR, "model.neck.out_channel=3", r"model\.neck\.out_channel: .* 'out_channels'"),
        (DETECTOR, "model.roi_head.bbox_head.fc_chanels=3", r"model\.roi_head\.bbox_head\.fc_chanels: .*'fc_channels'"),
        (DETECTOR, "model.roi_head.strides=[8,16]", r"model\.roi_head\.strides is \(8, 16\), but .*\(4, 8, 16\)"),
        (DETECTOR, "model.rpn_head.in_channels=32", r"model\.rpn_head\.in_channels is 32, but .* 64 channels"),
        (DETECTOR, "default_hooks.checkpoint.save_best=mAP", r"save_best: .*'bbox_mAP'"),
        (DETECTOR, "model.backbone.features_only=False", "features_only=True"),
        (DETECTOR, "val_dataloader.dataset.root=data/scene", r"val_dataloader\.dataset\.root: there is no data/scene"),
        (SEGMENTOR, "default_hooks.checkpoint.save_best=miou", r"save_best: .*'mIoU'"),
        (SEGMENTOR, "model.auxiliary_head.num_classes=19", r"decode_head.*150.*19|auxiliary_head.*19.*150"),
        (SEGMENTOR, "model.decode_head.in_channels=[64,128,256,500]", "do not fit together"),
        (SEGMENTOR, "model.decode_head.type=UperHead", "'UPerHead'"),
    ],
)
def test_what_cannot_work_is_said_with_its_key(name: str, option: str, words: str):
    cfg = load_config(name, [*(TINY if name == SEGMENTOR else ()), option])
    with pytest.raises(ConfigError, match=words):
        check_config(cfg, paths="root" in option)


@pytest.mark.parametrize("name", [DETECTOR, SEGMENTOR])
def test_the_config_itself_passes(name: str):
    check_config(load_config(name, TINY if name == SEGMENTOR else ()), paths=False)


def test_a_missing_folder_that_a_tool_makes_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no data/scenes .*`python tools/make_scenes\.py` makes it"):
        check_config(load_config(DETECTOR))
