"""Builds what a predictor needs from a model's name, a config, a work dir or a module."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mmengine.config import Config
from torch import nn

from ...backbones.registry import get_pretrained_cfg, list_models
from ...names import nearest_names
from ..catalog import checkpoint_of_config
from ..config.checking import check_config
from ..config.loading import SUFFIXES, list_configs, load_config
from ..config.parts import backbone_of, has_separate_heads
from ..factory import create_model
from ..plots.colors import Color
from ..preprocessing import Preprocessing, evaluation_dataset, warn_of_difference
from ..registry import MODELS, TRANSFORMS
from ..tasks.base import Task, is_task
from ..weights import LoadReport, load_weights, weights_target
from ..work_dir import CONFIG, find_best
from .class_names import (
    imagenet_class_names,
    model_class_names,
    readable_names,
)
from .classifiers import build_classifier_task, evaluation_transform

__all__ = ["Kind", "LoadedModel", "Weights", "build", "evaluation_transform"]

_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")

Kind = Literal["classification", "detection", "segmentation"]
Weights = str | os.PathLike[str] | Mapping[str, Any] | bool | None


@dataclass
class LoadedModel:
    """What a predictor needs.

    Attributes:
        task: The task with its weights.
        kind: What the task predicts.
        transform: Transform that the task is evaluated with.
        name: Name of the model for messages and reports.
        weights: Description of where the weights came from.
        classes: Class names by label; empty if they are unknown.
        palette: Colors by label, if the data set has its own.
    """

    task: Any
    kind: Kind
    transform: Callable[..., Any]
    name: str
    weights: str
    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] | None = None


def build(
    model: str | os.PathLike[str] | Config | Mapping[str, Any] | nn.Module,
    weights: Weights = None,
    transform: dict[str, Any] | Callable[..., Any] | None = None,
    use_ema: bool | None = None,
    cfg_options: Mapping[str, Any] | Sequence[str] | None = None,
    check: bool = True,
) -> LoadedModel:
    """Builds a model and loads its weights.

    Args:
        model: See `Predictor`.
        weights: See `Predictor`.
        transform: See `Predictor`.
        use_ema: See `Predictor`.
        cfg_options: See `Predictor`.
        check: See `Predictor`.

    Raises:
        ValueError: There is no such model or config, or the arguments do not fit together.
        OSError: The weights cannot be read or downloaded.
    """
    if isinstance(weights, (str, os.PathLike)) and (Path(weights).expanduser() / CONFIG).is_file():
        weights = find_best(Path(weights).expanduser())
    if isinstance(transform, dict):
        transform = TRANSFORMS.build(transform)
    if isinstance(model, nn.Module):
        return _from_module(model, weights, transform, use_ema)
    if isinstance(model, (Config, Mapping)):
        cfg = copy.deepcopy(model) if isinstance(model, Config) else Config(copy.deepcopy(dict(model)))
        title = str(getattr(cfg, "filename", None) or "The config")
        return _from_config(cfg, title, None, weights, transform, use_ema, check)
    if not isinstance(model, (str, os.PathLike)):
        raise ValueError(
            f"model must be a model's name, a config, a work dir or a torch module, got {type(model).__name__}."
        )
    name = os.fspath(model)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix in _CHECKPOINT_SUFFIXES:
        _check_checkpoint(path, weights)
        cfg = load_config(path.parent / CONFIG, cfg_options)
        return _from_config(cfg, name, path.parent, path, transform, use_ema, check)
    if name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) or (not path.is_file() and MODELS.is_backbone(name)):
        if cfg_options:
            raise ValueError(f"cfg_options change a config, but {name!r} is a model.")
        return _from_name(name, weights, transform, use_ema)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            hint = f" Did you mean 'local-dir:{name}'?" if (path / "config.json").is_file() else ""
            raise ValueError(f"{name} is not a work dir: it has no {CONFIG}, which training writes.{hint}")
        cfg = load_config(path / CONFIG, cfg_options)
        weights = find_best(path) if weights is None else weights
        return _from_config(cfg, name, path, weights, transform, use_ema, check)
    if not path.is_file() and path.suffix not in SUFFIXES and "/" not in name:
        _check_config_name(name)
    return _from_config(load_config(name, cfg_options), name, None, weights, transform, use_ema, check)


def _check_checkpoint(path: Path, weights: Weights) -> None:
    """Raises a ValueError unless a checkpoint is in a work dir, whose config describes its model."""
    if weights is not None:
        raise ValueError(f"{path} is a checkpoint, so weights= must be omitted, got {weights!r}.")
    if not (path.parent / CONFIG).is_file():
        raise ValueError(
            f"{path} is a checkpoint without a {CONFIG} in its folder, so its model is unknown: pass the model's name "
            "or a config as the model, and the checkpoint as weights=."
        )


def _check_config_name(name: str) -> None:
    """Raises a ValueError that suggests names of models and configs, unless there is a config of this name."""
    configs = [config.rpartition("/")[2] for config in list_configs()]
    if name not in configs:
        nearest = nearest_names(name, [*list_models(), *configs])
        hint = f" Did you mean {' or '.join(repr(one) for one in nearest)}?" if nearest else ""
        raise ValueError(f"There is no model, config or work dir {name!r}.{hint}")


def _from_name(name: str, weights: Weights, transform: Any, use_ema: bool | None) -> LoadedModel:
    """Builds a classifier by its name, with the preprocessing of its weights."""
    published = weights is None or weights is True
    if published:
        model = create_model(name, pretrained=True, use_ema=use_ema)
    elif isinstance(weights, (str, os.PathLike)):
        model = create_model(name, checkpoint_path=os.fspath(weights), use_ema=use_ema)
    else:
        model = create_model(name, pretrained=False)
        if isinstance(weights, Mapping):
            load_weights(model, weights, use_ema=use_ema, adopt_classes=True)
    loaded = _from_classifier(model, transform, name)
    loaded.weights = "published" if published else _describe(weights)
    tag = str((getattr(model, "pretrained_cfg", None) or {}).get("tag") or "")
    if not loaded.classes and published and ("in1k" in tag or "in2" in tag):
        loaded.classes = imagenet_class_names(loaded.task.num_classes)
    return loaded


def _from_module(model: nn.Module, weights: Weights, transform: Any, use_ema: bool | None) -> LoadedModel:
    """Prepares a task or a classifier that the user has built."""
    if weights is True:
        raise ValueError("weights=True loads published weights by a model's name, but a module was given.")
    given = None if isinstance(weights, bool) else weights
    if is_task(model):
        known = model.preprocessing if isinstance(model, Task) else None
        if transform is None and known is not None and known.crop_pct is not None:
            transform = evaluation_transform(known.to_cfg({}))
        if transform is None:
            raise ValueError(f"A {type(model).__name__} needs a transform, such as dict(type='Evaluation', size=224).")
        loaded = LoadedModel(model, _kind_of(model), transform, type(model).__name__, "in memory")
        if given is not None:
            report = load_weights(weights_target(model), given, use_ema=use_ema)
            own = Preprocessing.from_task(model)
            warn_of_difference(report.preprocessing, own, f"The weights in {report.source}", loaded.name)
    else:
        if given:  # before the model's preprocessing is read, which the weights may carry
            load_weights(model, given, use_ema=use_ema)
        loaded = _from_classifier(model, transform, type(model).__name__)
    if given is not None:
        loaded.weights = _describe(weights)
    if not loaded.classes:  # training and weights tell a task
        names = getattr(getattr(model, "preprocessing", None), "label_names", None) or ()
        loaded.classes = readable_names(names) if len(names) == loaded.task.num_classes else ()
    return loaded


def _from_classifier(model: Any, transform: Any, name: str) -> LoadedModel:
    """Prepares a module that maps images to logits."""
    task = build_classifier_task(model, transform is not None, name)
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    # `save_pretrained` stores the class names in the model's configuration.
    names = readable_names(tuple(cfg.get("label_names") or ()))
    return LoadedModel(
        task,
        "classification",
        transform or evaluation_transform(cfg),
        name,
        "in memory",
        names if len(names) == task.num_classes else (),
    )


def _from_config(
    cfg: Config,
    title: str,
    work_dir: Path | None,
    weights: Weights,
    transform: Any,
    use_ema: bool | None,
    check: bool,
) -> LoadedModel:
    """Builds a config's model, with the transform of its test data."""
    dataset = _test_dataset(cfg, title)
    own_transform = dataset.get("transform") if transform is None else None
    if transform is None:
        if not dataset.get("transform"):
            raise ValueError(
                f"{title} has no test_dataloader with a transform: pass transform=, such as dict(type='Evaluation', "
                "size=224)."
            )
        transform = TRANSFORMS.build(dict(dataset["transform"]))
    with_heads = has_separate_heads(cfg.to_dict())
    published = checkpoint_of_config(cfg) if with_heads and (weights is None or weights is True) else None
    if weights is None and published is None:
        raise ValueError(
            f"{title} is a config, which has no weights. Pass weights=: a checkpoint (path, URL, hf-hub:owner/name), "
            "True for published weights or False for none; or pass the work dir of a training as the model."
        )
    if with_heads and weights is True and published is None:
        raise ValueError(
            f"{title} has heads besides its backbone, and the catalog has no published checkpoint for it: pass a "
            "checkpoint of the complete model as weights=."
        )
    backbone = backbone_of(cfg.to_dict())
    if backbone is not None:
        part = cfg.model if backbone[0] == "model" else cfg.model.backbone
        part.update(pretrained=weights is True and published is None, checkpoint_path=None)
    if check:
        check_config(Config({"model": cfg.model}), paths=False)
    if published is not None:
        weights = published.fetch()
    task: Any = MODELS.build(cfg.model)
    if not is_task(task):
        task = build_classifier_task(task, True, title)
    carried = None
    if weights is True:
        _check_head(task.backbone.load_report, task, title)
    elif weights is not None and weights is not False:
        report = load_weights(weights_target(task), weights, use_ema=use_ema)
        _check_head(report, task, title)
        own = Preprocessing.from_task(task, own_transform)
        warn_of_difference(report.preprocessing, own, f"The weights in {report.source}", title)
        carried = None if report.preprocessing is None else report.preprocessing.label_names
    folders = [folder for folder in (work_dir, _folder_of(weights)) if folder is not None]
    names, palette = model_class_names(dataset, task.num_classes, carried, folders)
    if not names and weights is True and backbone is not None:
        is_imagenet = "in1k" in str(get_pretrained_cfg(backbone[1]["type"]).tag)
        names = imagenet_class_names(task.num_classes) if is_imagenet else ()
    description = _describe(weights) if published is None else f"published: {published.name}"
    return LoadedModel(task, _kind_of(task), transform, title, description, names, palette)


def _test_dataset(cfg: Config, title: str) -> Mapping[str, Any]:
    """Returns the config of the data set that a model is tested on; empty if there is none."""
    if not isinstance(cfg.get("model"), Mapping) or "type" not in cfg.model:
        raise ValueError(f"{title} has no `model` with a type, so there is nothing to predict with.")
    return evaluation_dataset(cfg)


def _folder_of(weights: Weights) -> Path | None:
    """Returns the folder of a checkpoint file, which may be a work dir."""
    return Path(weights).expanduser().parent if isinstance(weights, (str, os.PathLike)) else None


def _check_head(report: LoadReport, task: Any, title: str) -> None:
    """Raises a ValueError if the head kept its initial values, which makes predictions meaningless."""
    if report.head_classes is not None:
        checkpoint, model = report.head_classes
        raise ValueError(
            f"The checkpoint's head has {checkpoint} outputs, but the head of {title} has {model}: its classes differ, "
            f"and predictions of an untrained head are meaningless. Set {task.classes_key} with cfg_options=."
        )


def _kind_of(task: Any) -> Kind:
    kind: Any = getattr(task, "kind", None)
    if kind not in get_args(Kind):
        raise ValueError(
            f"A predictor needs a task whose `kind` is one of {', '.join(get_args(Kind))}, but "
            f"{type(task).__name__}.kind is {kind!r}."
        )
    return kind


def _describe(weights: Weights) -> str:
    if isinstance(weights, Mapping):
        return "a state dict in memory"
    if isinstance(weights, bool) or weights is None:
        return "published" if weights else "none: randomly initialized"
    return os.fspath(weights)
