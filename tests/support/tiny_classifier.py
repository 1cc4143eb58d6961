"""A classifier that is trained in seconds on images of three colors, for tests that need a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from attnzoo.tools import train as train_tool

COLORS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
BACKBONE = {"depths": [1, 1], "embed_dims": [32, 64], "num_heads": [1, 2], "kernel_size": 3, "stem_stride": 2}
_CONFIG = """
_base_ = ["{bases}/default_runtime.py"]
model = dict(
    type="Classifier",
    backbone=dict(type="nat_mini", num_classes=3, **{backbone}),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
)
_data = dict(type="ImageClassificationDataset", root="{root}")
train_dataloader = dict(
    batch_size=6,
    num_workers=0,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EpochSampler"),
    dataset=dict(split="train", transform=dict(type="SmallImageTrain", size=16, padding=2), **_data),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    collate_fn=dict(type="classification_collate"),
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(split="val", transform=dict(type="Evaluation", size=16, crop_pct=0.9), **_data),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 2))
test_evaluator = val_evaluator
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05))
param_scheduler = dict(type="WarmupCosine")
train_cfg = dict(type="EpochTrainLoop", max_epochs=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
"""


def write_images(folder: Path, per_class: int, side: int = 20) -> None:
    """Writes images of each color, one folder per color."""
    noise = np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.clip(np.array(color) + noise.integers(-60, 60, (side, side + index, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")


def write_config(folder: Path, train: int = 4, val: int = 3) -> Path:
    """Writes images of each color to `folder`, and a config that other configs may inherit from.

    Args:
        folder: An empty folder.
        train: Training images per color.
        val: Validation images per color.

    Returns:
        Path of the config, `tiny.py`.
    """
    write_images(folder / "images" / "train", train)
    write_images(folder / "images" / "val", val)
    bases = Path(train_tool.__file__).parents[1] / "configs" / "_base_"
    text = _CONFIG.replace("{root}", str(folder / "images")).replace("{backbone}", str(BACKBONE))
    path = folder / "tiny.py"
    path.write_text(text.replace("{bases}", str(bases)))
    return path


def train_tiny(folder: Path) -> tuple[Path, Path]:
    """Trains the tiny classifier.

    Args:
        folder: An empty folder.

    Returns:
        Paths of the config and of the work dir.
    """
    config = write_config(folder)
    work_dir = folder / "trained"
    assert train_tool.main([str(config), "--work-dir", str(work_dir)]) == 0
    return config, work_dir
