"""The recipe of a fine-tuned classifier: model, data and metric."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...backbones.registry import PretrainedCfg
from ..data.formats import LabeledImages
from ..files import write_json, write_text
from .options import Options, Settings

SMALL = 64
"""Largest image size in pixels that is augmented as CIFAR's images are."""


def model_config(name: str, cfg: PretrainedCfg, num_classes: int, options: Options) -> dict[str, Any]:
    """Builds the config of the task.

    Args:
        name: Name of the backbone, with or without a tag.
        cfg: The weights' configuration, whose normalization is used.
        num_classes: Number of classes.
        options: The user's choices.
    """
    backbone: dict[str, Any] = {"type": name, "pretrained": options.weights is None}
    model: dict[str, Any] = {
        "backbone": backbone,
        "data_preprocessor": {"mean": cfg.mean, "std": cfg.std},
        "loss": {"type": "CrossEntropy", "label_smoothing": 0.1},
    }
    if options.weights is not None and not options.from_scratch:
        model["init_weights"] = os.fspath(options.weights)
    if options.probe is not None:
        kind = {"linear": "LinearProbe", "efficient": "EfficientProbe"}[options.probe]
        return {"type": "Probe", **model, "probe": {"type": kind, "num_classes": num_classes}}
    backbone["num_classes"] = num_classes
    return {"type": "Classifier", **model, "frozen_stages": options.freeze}


def data_config(content: LabeledImages, cfg: PretrainedCfg, settings: Settings, work_dir: Path) -> dict[str, Any]:
    """Builds the configs of the data loaders and the metric.

    Args:
        content: The data set, with the splits "train" and "val".
        cfg: The weights' configuration, whose preprocessing is used.
        settings: Image size, batch size and workers.
        work_dir: Folder of the lists of images, if the splits are not folders.
    """
    size, images = settings.image_size, content.count("train")
    small = size <= SMALL
    appearance = {"interpolation": cfg.interpolation, "mean": cfg.mean, "std": cfg.std}
    train: dict[str, Any] = {"type": "ImageNetTrain", "scale": (0.3, 1.0), "rand_augment": "rand-m7-n2-mstd0.5-inc1"}
    if small:
        train = {"type": "SmallImageTrain", "padding": size // 8, "rand_augment": "rand-m5-n1-mstd0.5-inc1"}
    evaluation = {
        "type": "Evaluation",
        "size": size,
        "crop_pct": 1.0 if small else cfg.crop_pct,
        "crop_mode": cfg.crop_mode,
        "interpolation": cfg.interpolation,
        "mean": cfg.mean,
    }
    topk = (1, 5) if len(content.classes) > 5 else (1,)
    return {
        "train_dataloader": {
            **settings.loader(settings.batch_size, "classification_collate"),
            "drop_last": images % settings.batch_size == 1,  # BatchNorm cannot train on a single image
            "sampler": {"type": "EpochSampler", "shuffle": True},
            "dataset": {
                **_dataset(content, "train", work_dir),
                "transform": {**train, "size": size, "random_erasing": 0.1, **appearance},
            },
        },
        "val_dataloader": {
            **settings.loader(2 * settings.batch_size, "classification_collate"),
            "sampler": {"type": "EvaluationSampler"},
            "dataset": {**_dataset(content, "val", work_dir), "transform": evaluation},
        },
        "val_evaluator": {"type": "Accuracy", "topk": topk, "per_class": True},
    }


def _dataset(content: LabeledImages, split: str, work_dir: Path) -> dict[str, Any]:
    """Builds the config of a data set; a split that is not a folder is written as a list of its images."""
    base = {"type": "ImageClassificationDataset", "root": str(content.root)}
    if split in content.folders:
        return {**base, "split": content.folders[split]}
    folder = work_dir / "data"
    classes = write_json(folder / "classes.json", list(content.classes))
    lines = "".join(f"{path} {label}\n" for path, label in content.splits[split])
    images = write_text(folder / f"{split}.txt", lines)
    return {**base, "annotations": str(images.resolve()), "class_map": str(classes.resolve())}
