"""Evaluation of a checkpoint: its config, its weights and the content of results.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..analysis.summary import count_parameters, describe_device, library_versions
from ..catalog import checkpoint_of_config
from ..config.parts import backbone_of, has_separate_heads
from ..preprocessing import Preprocessing, warn_of_difference
from ..weights import LoadReport, load_weights, weights_target
from . import find_metric_info

_TRAINING_KEYS = (
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "auto_scale_lr",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
    "load_from",
    "resume",
)


def evaluation_config(cfg: Config, name: str, pretrained: bool) -> Config:
    """Removes from a config what an evaluation does not need.

    Args:
        cfg: The config, which is changed.
        name: Path or name of the config, for error messages.
        pretrained: Evaluate the published weights.

    Returns:
        The config.

    Raises:
        ValueError: If the config has no test data or no backbone, or published weights for all of its parts do not
            exist.
    """
    if not cfg.get("test_dataloader") or not cfg.get("test_evaluator"):
        raise ValueError(f"{name} has no test_dataloader or no test_evaluator: there is nothing to evaluate.")
    for key in _TRAINING_KEYS:
        cfg.pop(key, None)
    cfg.custom_hooks = []
    cfg.test_cfg = cfg.get("test_cfg") or {"type": "TestLoop"}
    backbone = backbone_of(cfg.to_dict())
    if backbone is None:
        raise ValueError("model.backbone: must be one of the zoo's backbones to be evaluated.")
    with_heads = has_separate_heads(cfg.to_dict())
    if pretrained and with_heads and checkpoint_of_config(cfg) is None:
        raise ValueError(
            f"{name} has heads besides its backbone, and the catalog has no published checkpoint for it: pass a "
            "CHECKPOINT of the complete model instead of --pretrained."
        )
    model = cfg.model if backbone[0] == "model" else cfg.model.backbone
    model.update(pretrained=pretrained and not with_heads, checkpoint_path=None)
    cfg.model.pop("init_weights", None)  # the evaluated weights replace them
    return cfg


def fetch_published(cfg: Config) -> Path | None:
    """Returns the local path of the published checkpoint of a config's detector or segmentor, after downloading it.

    Args:
        cfg: Result of `evaluation_config` with `pretrained`.

    Returns:
        None for a classifier, whose backbone loads its own published weights when it is built.

    Raises:
        DownloadError: The download failed; the message explains how to put the file in place manually.
    """
    published = checkpoint_of_config(cfg) if has_separate_heads(cfg.to_dict()) else None
    return None if published is None else published.fetch()


def load_evaluated_weights(model: Any, checkpoint: str | os.PathLike[str] | None, raw: bool) -> LoadReport:
    """Loads the weights to evaluate, unless they were loaded when the model was built.

    Args:
        model: The task.
        checkpoint: A checkpoint in any form that `load_weights` accepts; None if the weights are loaded already.
        raw: Use the trained weights even if there are averaged ones.

    Returns:
        What was loaded.

    Raises:
        ValueError: If the weights do not fit, or their head has other classes.
    """
    if checkpoint is not None:
        report = load_weights(weights_target(model), checkpoint, use_ema=False if raw else None)
        own = Preprocessing.from_task(model)
        warn_of_difference(report.preprocessing, own, f"The weights in {report.source}", "the config")
    else:
        report = model.backbone.load_report
    if report.head_classes is not None:
        theirs, ours = report.head_classes
        raise ValueError(
            f"The head of the weights has {theirs} outputs, but the config's model has {ours} ({model.classes_key}), "
            "so the classes differ and the head would be untrained."
        )
    return report


def evaluation_results(
    metrics: Mapping[str, Any], images: int, seconds: float, model: Any, report: LoadReport, config: str
) -> dict[str, Any]:
    """Builds the content of results.json.

    Args:
        metrics: Results of the metrics.
        images: Number of evaluated images.
        seconds: Duration of the evaluation.
        model: The task.
        report: Report on the weights.
        config: Name of the config.
    """
    return {
        **{key: value for key, value in metrics.items() if isinstance(value, int | float)},
        "images": images,
        "checkpoint": report.source.strip("'"),
        "averaged_weights": report.is_ema,
        "model": model.backbone.pretrained_cfg["architecture"],
        "parameters": count_parameters(model)[0],
        "config": config,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 2),
        "device": describe_device(),
        "versions": library_versions(),
    }


def headline_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Selects the metrics that their class calls headlines, and those that no class describes."""
    infos = {key: find_metric_info(key) for key in metrics}
    return {
        key: value
        for key, value in metrics.items()
        if isinstance(value, int | float) and ((info := infos[key]) is None or info.headline)
    }
