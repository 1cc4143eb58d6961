"""Tests that every shipped config trains for two steps on tiny images, with its own model, losses and schedule."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.hooks import Hook
from PIL import Image

from attnzoo.zoo.config import check_config, list_configs, load_config
from attnzoo.zoo.training import build_runner, read_scalars
from support import painted, painted_coco

SIZE = 64
CLASSES = ("n01440764", "n01443537")  # two of ImageNet's
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


class TwoStepsDone(Exception):
    """Ends a training run."""


class StopAfterTwoSteps(Hook):
    """Ends a training run after its second step has been logged."""

    priority = "LOWEST"

    def after_train_iter(self, runner: Any, batch_idx: int, **kwargs: Any) -> None:
        if runner.iter + 1 == 2:
            raise TwoStepsDone


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns tiny data sets by the data-set type in the configs.

    Two classes with two training images and one validation image each; four images in COCO format with three
    categories; four images with label maps, once in the layout of ADE20K and once in a user's own folders.
    """
    roots = {kind: tmp_path_factory.mktemp(kind) for kind in ("images", "coco", "ade20k", "own")}
    noise = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for name in CLASSES:
            (roots["images"] / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = noise.integers(0, 256, (80, 80, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(roots["images"] / split / name / f"{name}_{index}.JPEG")
    for split in ("train", "val", "train2017", "val2017"):
        painted_coco.save(roots["coco"], split=split)
    for kind, images, labels in (
        ("ade20k", "images/training", "annotations/training"),
        ("ade20k", "images/validation", "annotations/validation"),
        ("own", "train", "labels/train"),
        ("own", "val", "labels/val"),
    ):
        for folder in (images, labels):
            (roots[kind] / folder).mkdir(parents=True)
        for number in range(4):
            label_map = painted.labels(number, SIZE, 80)
            Image.fromarray(painted.paint(label_map)).save(roots[kind] / images / f"{number}.jpg")
            # ADE20K's labels start at 1; 0 is ignored.
            numbers = np.where(label_map == 255, 0, label_map + 1) if kind == "ade20k" else label_map
            Image.fromarray(numbers.astype(np.uint8)).save(roots[kind] / labels / f"{number}.png")
    return {
        "ImageClassificationDataset": roots["images"],
        "CocoDetection": roots["coco"],
        "ADE20K": roots["ade20k"],
        "SegmentationFolders": roots["own"],
    }


@pytest.fixture(autouse=True)
def _memory():
    """Frees the model of each test, which reference cycles would otherwise keep in memory."""
    yield
    gc.collect()


def make_tiny(cfg: Any, kind: str) -> None:
    """Adapts a config to the tiny data, with few proposals and a narrow UPerNet."""
    if cfg.train_cfg.type == "EpochTrainLoop":
        cfg.param_scheduler.pop("warmup_iters", None)  # longer than the training run with so few images
    train = cfg.train_dataloader.dataset.transform
    if kind == "ImageClassificationDataset":
        cfg.train_dataloader.sampler.num_repeats = 1
        for loader in LOADERS:
            if cfg[loader].dataset.get("class_map") is None:
                cfg.model.backbone.num_classes = len(CLASSES)
            else:
                cfg[loader].dataset.transform.size = SIZE
    elif kind == "CocoDetection":
        # RetinaNet's coarsest map is computed from a map of 2x2 pixels here. For 1x1 pixels, torch 2.14's bfloat16
        # gradient of a strided convolution on CPUs sometimes has uninitialized values.
        train.scales = [(2 * SIZE, 2 * SIZE)] if "bbox_head" in cfg.model else [(SIZE, SIZE)]
        head = cfg.model.get("roi_head") or cfg.model.bbox_head
        head.num_classes = len(painted_coco.CLASSES)
        if "rpn_head" in cfg.model:
            cfg.model.rpn_head.setdefault("train_proposals", {}).update(nms_pre=20, max_per_img=20)
            head.setdefault("sampler", {}).update(num=16, pos_fraction=0.25)
    else:
        train.update(scale=(2 * SIZE, SIZE), crop_size=(SIZE, SIZE))
        cfg.model.data_preprocessor.train_size = (SIZE, SIZE)
        if cfg.model.decode_head.type == "UPerHead":
            cfg.model.decode_head.channels = 32


@pytest.mark.slow
@pytest.mark.parametrize("name", list_configs())
def test_two_training_steps(name: str, folders: dict[str, Path], tmp_path: Path):
    cfg = load_config(name)
    kind = cfg.train_dataloader.dataset.type
    make_tiny(cfg, kind)
    for loader in LOADERS:
        cfg[loader].update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
        cfg[loader].dataset.root = str(folders[kind])
    cfg.model.backbone.pretrained = False
    cfg.model.pop("init_weights", None)  # the weights are not available
    cfg.default_hooks.update(checkpoint=None, logger=dict(cfg.default_hooks.logger, interval=1))
    cfg.work_dir = str(tmp_path)
    check_config(cfg)
    runner = build_runner(cfg)
    before = {key: value.clone() for key, value in runner.model.named_parameters()}
    runner.register_hook(StopAfterTwoSteps())
    with pytest.raises(TwoStepsDone):
        runner.train()
    losses = [record["loss"] for record in read_scalars(tmp_path) if record["mode"] == "train"]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    after = dict(runner.model.named_parameters())
    for part in {key.partition(".")[0] for key in after}:  # the backbone, the neck, each of the heads
        assert any((after[key] != before[key]).any() for key in after if key.startswith(f"{part}.")), part
