"""The recipes of fine-tuned detectors and segmentors: model, data and metric."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...backbones.registry import PretrainedCfg
from ..config import list_configs, load_config
from ..config.loading import CONFIG_ROOT
from ..data.formats import AnnotatedImages, LabelMaps
from ..factory import create_model
from ..files import write_json, write_text
from .options import Options, Settings

CLASS_HEADS = ("roi_head", "bbox_head", "decode_head", "auxiliary_head")
"""Parts of a task that have an argument `num_classes`."""
DETECTOR_HEADS = ("mask-rcnn", "retinanet", "cascade-mask-rcnn")
SEGMENTOR_HEADS = ("semantic-fpn", "upernet")


def find_recipe(model: str, kind: str, has_masks: bool) -> str | None:
    """Returns the shipped recipe of a task on a backbone, with the shortest schedule; None if there is none.

    Args:
        model: Name of a backbone, without a tag.
        kind: "detection" or "segmentation".
        has_masks: Whether the objects have masks.
    """
    heads = SEGMENTOR_HEADS if kind == "segmentation" else DETECTOR_HEADS if has_masks else DETECTOR_HEADS[1:]
    names = [name.rpartition("/")[2] for name in list_configs()]
    for head in heads:
        matching = sorted(name for name in names if name.startswith(f"{model}_{head}_"))
        if matching:
            return matching[0]
    return None


def model_config(
    recipe: str, backbone: str, num_classes: int, has_masks: bool, cfg: PretrainedCfg, options: Options
) -> dict[str, Any]:
    """Builds the config of the task from that of a recipe.

    Args:
        recipe: Name of a shipped config with the same kind of task and backbone, or of a base file.
        backbone: Name of the backbone.
        num_classes: Number of classes.
        has_masks: Whether the objects have masks; a mask head is removed otherwise.
        cfg: Configuration of the backbone's weights, whose normalization is used.
        options: The user's choices.
    """
    base = CONFIG_ROOT / "_base_" / f"{recipe}.py"
    model: dict[str, Any] = load_config(base if base.is_file() else recipe).model.to_dict()
    given = model.setdefault("backbone", {})
    if base.is_file():
        finest = 8 if "out_indices" in given else 4  # the finest stride that the heads of the base file take
        given |= {"type": backbone, "features_only": True, "out_indices": _indices_from_stride(backbone, finest)}
    given["pretrained"] = options.weights is None and cfg.has_weights
    for name in CLASS_HEADS:
        if isinstance(model.get(name), Mapping):
            model[name]["num_classes"] = num_classes
    if not has_masks and "roi_head" in model:
        model["roi_head"]["mask_head"] = None
    model["data_preprocessor"] |= {"mean": cfg.mean, "std": cfg.std}
    model["data_preprocessor"].pop("train_size", None)  # batches are padded to their largest image
    return {**model, "frozen_stages": options.freeze}


def _indices_from_stride(backbone: str, finest: int) -> tuple[int, ...]:
    """Returns the indices of a backbone's feature maps from a stride on."""
    with torch.device("meta"):
        body: Any = create_model(backbone, pretrained=False, features_only=True)
    return tuple(index for index, stride in enumerate(body.feature_info.reduction()) if stride >= finest)


def initial_weights(options: Options) -> dict[str, Any]:
    """Returns the section with the checkpoint to start from, if the user gave one."""
    if options.weights is None or options.from_scratch:
        return {}
    return {"load_from": os.fspath(options.weights)}


def detection_data(content: AnnotatedImages, settings: Settings, work_dir: Path) -> dict[str, Any]:
    """Builds the configs of the data loaders and the metric of a detector.

    Args:
        content: The data set, with the splits "train" and "val".
        settings: Image size, batch size and workers.
        work_dir: Folder of the annotation files, if the data set is in another format.
    """
    size = settings.image_size
    scales = tuple((round(size * factor), round(size * factor)) for factor in (0.8, 0.9, 1.0))

    def dataset(split: str) -> dict[str, Any]:
        file = content.files.get(split) or write_json(
            work_dir / "data" / f"instances_{split}.json", content.splits[split], indent=None
        )
        place = {} if content.folders[split] == "." else {"split": content.folders[split]}
        root = {"type": "CocoDetection", "root": str(content.root), "annotations": str(file.resolve())}
        return {**root, **place, "with_masks": content.has_masks}

    return {
        "train_dataloader": {
            **settings.loader(settings.batch_size, "dense_collate"),
            "sampler": {"type": "EpochSampler", "shuffle": True},
            "batch_sampler": {"type": "AspectRatioBatchSampler"},
            "dataset": {
                **dataset("train"),
                "min_size": 1,
                "transform": {"type": "DetectionTrain", "mode": "multi-scale", "scales": scales},
            },
        },
        "val_dataloader": {
            **settings.loader(settings.batch_size, "dense_collate"),
            "sampler": {"type": "EvaluationSampler"},
            "dataset": {**dataset("val"), "transform": {"type": "DetectionTest", "scale": (size, size)}},
        },
        "val_evaluator": {"type": "CocoMetric", "iou_types": ("bbox", "segm") if content.has_masks else ("bbox",)},
    }


def segmentation_data(content: LabelMaps, settings: Settings, work_dir: Path) -> dict[str, Any]:
    """Builds the configs of the data loaders and the metric of a segmentor.

    Args:
        content: The data set, with the splits "train" and "val".
        settings: Image size, batch size and workers.
        work_dir: Folder of the lists of samples.
    """
    size = settings.image_size

    def dataset(split: str) -> dict[str, Any]:
        names = "".join(f"{name}\n" for name in content.splits[split])
        samples = write_text(work_dir / "data" / f"{split}.txt", names)
        return {
            "type": "SegmentationFolders",
            "root": str(content.root),
            "images": content.images[split],
            "labels": content.labels[split],
            "split": str(samples.resolve()),
            "classes": content.classes,
            **content.arguments,
        }

    train = {"type": "SegmentationTrain", "scale": (4 * size, size), "crop_size": (size, size)}
    return {
        "train_dataloader": {
            **settings.loader(settings.batch_size, "dense_collate"),
            "drop_last": content.count("train") % settings.batch_size == 1,
            "sampler": {"type": "EpochSampler", "shuffle": True},
            "dataset": {**dataset("train"), "transform": train},
        },
        "val_dataloader": {
            **settings.loader(1, "dense_collate"),
            "sampler": {"type": "EvaluationSampler"},
            "dataset": {**dataset("val"), "transform": {"type": "SegmentationTest", "scale": (4 * size, size)}},
        },
        "val_evaluator": {"type": "MeanIoU"},
    }
