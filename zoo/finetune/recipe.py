"""Builds the complete config of a fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ...backbones.registry import PretrainedCfg, get_pretrained_cfg, is_model, list_models, split_model_name_tag
from ...names import unknown_name
from ..config import list_configs, load_config
from ..config.parts import config_parts
from ..data.formats import AnnotatedImages, Content, LabeledImages, LabelMaps
from . import classification, dense
from .options import Facts, Options, Settings, choose_settings
from .recognize import OwnData


def build_recipe(model: str, own: OwnData, options: Options, work_dir: Path) -> tuple[Config, Settings]:
    """Builds the config of a fine-tuning, and writes the lists of images that it names into the work dir.

    Args:
        model: Name of a backbone, or for detection and segmentation of a shipped config.
        own: The data set.
        options: The user's choices.
        work_dir: Folder of the training.

    Returns:
        The config, which tools/train.py takes as well, and the settings that were chosen.

    Raises:
        ValueError: There is no such model, it does not fit the data, or there are no published weights for it.
    """
    content = own.content
    backbone, recipe = _find_model(model, content)
    cfg = get_pretrained_cfg(backbone)
    if options.weights is None and not cfg.has_weights:
        raise ValueError(
            f"There are no published weights for {backbone}. Pass weights: a checkpoint, or 'none' to train from "
            f"random weights. Models with weights: {', '.join(list_models(pretrained=True)[:5])}, ..."
        )
    settings = choose_settings(options, _facts(own, cfg, options))
    if isinstance(content, LabeledImages):
        sections = {
            "model": classification.model_config(backbone, cfg, len(content.classes), options),
            **classification.data_config(content, cfg, settings, work_dir),
        }
        best = "top1"
    else:
        if options.probe is not None:
            raise ValueError(f"A probe classifies images, but {content.root} is a data set for {content.kind}.")
        has_masks = isinstance(content, AnnotatedImages) and content.has_masks
        model_section = dense.model_config(recipe, backbone, len(content.classes), has_masks, cfg, options)
        sections = {"model": model_section, **dense.initial_weights(options)}
        if isinstance(content, AnnotatedImages):
            sections |= dense.detection_data(content, settings, work_dir)
            best = "segm_mAP" if has_masks and "roi_head" in model_section else "bbox_mAP"
        else:
            assert isinstance(content, LabelMaps)
            sections |= dense.segmentation_data(content, settings, work_dir)
            best = "mIoU"
    sections |= {**_training_config(settings, options, best), "work_dir": str(work_dir)}
    return Config(sections), settings


def _find_model(model: str, content: Content) -> tuple[str, str]:
    """Returns the backbone, and the shipped config or base file that the task is taken from ("" for a classifier).

    Raises:
        ValueError: There is no such model, or it is for another kind of task than the data.
    """
    has_masks = isinstance(content, AnnotatedImages) and content.has_masks
    if is_model(model):
        if isinstance(content, LabeledImages):
            return model, ""
        base = "semantic_fpn" if content.kind == "segmentation" else "mask_rcnn" if has_masks else "retinanet"
        return model, dense.find_recipe(split_model_name_tag(model)[0], content.kind, has_masks) or base
    configs = [name.rpartition("/")[2] for name in list_configs()]
    if model.rpartition("/")[2] not in configs:
        raise ValueError(unknown_name("model", model, [*list_models(), *configs], max_listed=0))
    parts = config_parts(load_config(model).to_dict())
    if parts.backbone is None or parts.kind != content.kind:
        raise ValueError(f"{model} is a config for {parts.kind}, but {content.root} is a data set for {content.kind}.")
    return parts.backbone.type, model


def _facts(own: OwnData, cfg: PretrainedCfg, options: Options) -> Facts:
    return Facts(
        kind=own.content.kind,
        images=own.content.count("train"),
        side=own.side,
        weights_size=min(cfg.input_size[1:]),
        stride=32,
        from_scratch=options.from_scratch,
        probe=options.probe is not None,
        cuda=torch.cuda.is_available(),
    )


def _training_config(settings: Settings, options: Options, best: str) -> dict[str, Any]:
    """Builds the sections that do not depend on the task."""
    layer_decay = {} if settings.layer_decay == 1 else {"paramwise_cfg": {"layer_decay_rate": settings.layer_decay}}
    hooks: list[dict[str, Any]] = []
    if settings.ema_decay is not None:
        hooks.append({"type": "EMAHook", "decay": settings.ema_decay, "warmup": True})
    if settings.patience:
        hooks.append(
            {
                "type": "EarlyStoppingHook",
                "monitor": best,
                "rule": "greater",
                "min_delta": 0.0,
                "patience": settings.patience,
            }
        )
    return {
        "optim_wrapper": {
            "type": "AmpOptimWrapper" if settings.amp else "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": settings.lr, "weight_decay": 0.05},
            "clip_grad": {"max_norm": 5.0},
            **layer_decay,
        },
        "param_scheduler": {
            "type": "WarmupCosine",
            "warmup_epochs": settings.warmup,
            "warmup_lr": settings.lr / 100,
            "min_lr": settings.lr / 100,
            "warmup_prefix": True,
        },
        "train_cfg": {"type": "EpochTrainLoop", "max_epochs": settings.epochs},
        "val_cfg": {"type": "ValLoop"},
        "default_hooks": {
            "logger": {"interval": 20},
            "checkpoint": {"interval": 1, "max_keep_ckpts": 1, "save_best": best},
        },
        "custom_hooks": hooks,
        "randomness": {"seed": options.seed},
    }
