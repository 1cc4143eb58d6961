"""Every shipped config trains: two steps on tiny images, with its own model, losses, optimizer and schedule."""

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

SIZE = 64
CLASSES = ("n01440764", "n01443537")  # two of ImageNet's


class Over(Exception):
    """The two steps are done."""


class AfterTwoSteps(Hook):
    """Ends a training, after the log line of its second step."""

    priority = "LOWEST"

    def after_train_iter(self, runner: Any, batch_idx: int, **kwargs: Any) -> None:
        if runner.iter + 1 == 2:
            raise Over


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes with two training images and one validation image each."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = noise.integers(0, 256, (80, 80, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{name}_{index}.JPEG")
    return root


@pytest.fixture(autouse=True)
def _memory():
    """Frees a test's model, which cycles of references would keep until some later collection."""
    yield
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", list_configs())
def test_two_training_steps(name: str, images: Path, tmp_path: Path):
    cfg = load_config(name)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
        loader.dataset.root = str(images)
        if loader.dataset.get("class_map") is None:
            cfg.model.backbone.num_classes = len(CLASSES)
        else:
            loader.dataset.transform.size = SIZE
    cfg.train_dataloader.sampler.num_repeats = 1
    cfg.model.pop("init_weights", None)  # a file that is not here
    cfg.default_hooks.update(checkpoint=None, logger=dict(cfg.default_hooks.logger, interval=1))
    cfg.work_dir = str(tmp_path)
    check_config(cfg)
    runner = build_runner(cfg)
    before = {key: value.clone() for key, value in runner.model.named_parameters()}
    runner.register_hook(AfterTwoSteps())
    with pytest.raises(Over):
        runner.train()
    losses = [record["loss"] for record in read_scalars(tmp_path) if record["mode"] == "train"]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert any((value != before[key]).any() for key, value in runner.model.named_parameters())
