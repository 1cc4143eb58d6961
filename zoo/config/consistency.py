"""Checks whether the parts of a config fit together: class counts, image sizes, schedule, files on the disk."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from ...backbones.registry import get_pretrained_cfg
from ...names import unknown_name
from ..data.common.checks import check_num_classes, check_same_classes
from ..data.common.paths import did_you_mean
from ..registry import MODELS
from ..training.model_setup import unwrap_model
from .parts import ConfigParts, config_parts, leaves

_DENSE_SIZE = (96, 128)
"""Height and width of the image that detectors and segmentors, which take any size, are tried with."""

_MINIMUM = {
    "batch_size": 1,
    "num_workers": 0,
    "max_epochs": 1,
    "max_iters": 1,
    "val_interval": 1,
    "accumulative_counts": 1,
    "base_batch_size": 1,
    "num_classes": 0,
    "lr": 0.0,
    "weight_decay": 0.0,
}
_MAXIMUM = {"num_workers": 1000, **dict.fromkeys(("depth", "depths", "num_convs", "stacked_convs", "num_outs"), 10_000)}
"""Limits beyond which building would not end."""

_FRACTIONS = ("drop_path_rate", "drop_rate", "proj_drop_rate", "label_smoothing")


def find_contradictions(cfg: Mapping[str, Any], paths: bool = True) -> list[str]:
    """Finds what cannot work although every single key is right.

    Args:
        cfg: A config whose keys and types were checked.
        paths: Also look at the disk.

    Returns:
        One line for each contradiction, with the dotted keys.
    """
    parts = config_parts(cfg)
    quick = (_numbers, _schedules, _best_metric, _task_kinds, _channels, _image_sizes)
    found = [problem for check in quick for problem in check(parts)]
    if paths:
        found += _missing_files(parts)
    if not found:
        found += [*_class_counts(parts, paths), *_forward(parts)]
    return found


def check_built(runner: Any) -> None:
    """Checks what only the built data sets tell, before the first step; logs what is unusual but not an error.

    Args:
        runner: A Runner whose loops are built.

    Raises:
        ValueError: The model and a data set differ in their classes, two data sets do, or a data set's own check finds
            an error.
    """
    model: Any = unwrap_model(runner.model)
    loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
    data = [loop.dataloader.dataset for loop in loops]
    has_classes = hasattr(model, "num_classes") and hasattr(model, "classes_key")
    if not has_classes or not all(hasattr(dataset, "classes") for dataset in data):
        return
    for dataset in data:
        check_num_classes(model.num_classes, dataset, model.classes_key)
    for dataset in data[1:]:
        check_same_classes(data[0], dataset)
    if runner.rank == 0:
        for dataset in data:
            for finding in dataset.check() if hasattr(dataset, "check") else ():
                runner.logger.warning(finding)


class BuiltCheckHook(Hook):
    """Runs `check_built` right before the first step.

    Attributes:
        passed: Whether everything was built, loaded and checked, so that training has begun.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.passed = False

    def before_train(self, runner: Any) -> None:
        """Checks the data sets against the model and against each other."""
        check_built(runner)
        self.passed = True


def _numbers(parts: ConfigParts) -> Iterator[str]:
    """Finds numbers out of range under keys that mean the same everywhere."""
    for where, key, value in leaves(parts.config):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        most = _MAXIMUM.get(key or where.split(".")[-2])  # the elements of a list have no key
        if math.isnan(value):
            yield f"{where}: must be a number, got nan."
        elif key in _MINIMUM and math.isinf(value):
            yield f"{where}: must be finite, got {value}."
        elif most is not None and value > most:
            yield f"{where}: must be <= {most}, got {value}."
        elif key in _MINIMUM and value < _MINIMUM[key]:
            yield f"{where}: must be >= {_MINIMUM[key]}, got {value}."
        elif key in _FRACTIONS and not 0 <= value < 1:
            yield f"{where}: must be >= 0 and < 1, got {value}."
        elif key == "max_norm" and value <= 0:
            yield f"{where}: must be positive, got {value}."


def _schedules(parts: ConfigParts) -> Iterator[str]:
    """Finds schedules that do not fit into the training or have no effect."""
    cfg = parts.config
    length = (cfg.get("train_cfg") or {}).get("max_epochs")
    base = ((cfg.get("optim_wrapper") or {}).get("optimizer") or {}).get("lr")
    base = base if isinstance(base, int | float) else None
    given = cfg.get("param_scheduler")
    several = isinstance(given, list | tuple)
    for index, schedule in enumerate(given if several else [given] if given else []):
        where = f"param_scheduler.{index}" if several else "param_scheduler"
        spans = {key: schedule.get(key) or 0 for key in ("warmup_epochs", "cooldown_epochs")}
        for key in (*spans, "warmup_iters", "cooldown_iters"):
            if (schedule.get(key) or 0) < 0:
                yield f"{where}.{key}: must not be negative, got {schedule[key]}."
        if length is not None and sum(spans.values()) >= length:
            yield (
                f"{where}: warmup_epochs={spans['warmup_epochs']} and cooldown_epochs={spans['cooldown_epochs']} leave "
                f"no epochs of train_cfg.max_epochs={length} for the decay."
            )
        begin, end = schedule.get("begin", 0), schedule.get("end")
        if end is not None and begin >= end:
            yield f"{where}.end: must be greater than begin={begin}, got {end}."
        for key in ("min_lr", "eta_min", "warmup_lr"):
            rate = schedule.get(key)
            if base is not None and rate is not None and rate > base:
                yield f"{where}.{key}: must not be greater than optim_wrapper.optimizer.lr={base}, got {rate}."


def _best_metric(parts: ConfigParts) -> Iterator[str]:
    """Finds metrics in `save_best` that the validation does not report."""
    wanted = ((parts.config.get("default_hooks") or {}).get("checkpoint") or {}).get("save_best")
    if not wanted or not parts.config.get("val_evaluator") or parts.metrics is None:
        return
    names = [info.name for info in parts.metrics]
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if name not in names:
            yield f"default_hooks.checkpoint.save_best: {unknown_name('metric of val_evaluator', name, names)}"


def _task_kinds(parts: ConfigParts) -> Iterator[str]:
    """Finds data sets for another kind of task than the model's."""
    for dataset in parts.datasets:
        if None not in (parts.kind, dataset.kind) and dataset.kind != parts.kind:
            yield f"{dataset.key}: {dataset.type} is for {dataset.kind}, but {parts.model.type} is for {parts.kind}."


def _channels(parts: ConfigParts) -> Iterator[str]:
    """Finds models and normalization for another number of channels than the images have, which are always RGB."""
    backbone = parts.backbone
    if backbone is not None and backbone.config.get("in_chans", 3) != 3 and parts.datasets:
        yield f"{backbone.key}.in_chans: must be 3, the channels of all images, got {backbone.config['in_chans']}."
    preprocessor = parts.model.config.get("data_preprocessor") or {}
    for key in ("mean", "std"):
        values = preprocessor.get(key)
        if isinstance(values, list | tuple) and len(values) != 3:
            yield f"model.data_preprocessor.{key}: must have 3 values, one per channel, got {len(values)}."


def _image_sizes(parts: ConfigParts) -> Iterator[str]:
    """Finds image sizes that the backbone does not take, and evaluation at a smaller size than training."""
    if parts.backbone is None:
        return
    published = get_pretrained_cfg(parts.backbone.type)
    sized = [(dataset, dataset.image_size) for dataset in parts.datasets if dataset.image_size is not None]
    for dataset, size in sized:
        fixed = tuple(published.input_size[1:])
        if published.fixed_input_size and size != fixed:
            yield (
                f"{dataset.key}.transform.size: must be {size_text(fixed)}, the only size that {parts.backbone.type} "
                f"({parts.backbone.key}) takes, got {size_text(size)}."
            )
    training = next(((dataset, size) for dataset, size in sized if dataset.is_training), None)
    for dataset, size in sized:
        if dataset.key.startswith("val_") and training is not None and min(size) < min(training[1]):
            yield (
                f"{dataset.key}.transform.size: is {size_text(size)}, smaller than the training images, "
                f"{size_text(training[1])} ({training[0].key}.transform.size)."
            )


def _missing_files(parts: ConfigParts) -> Iterator[str]:
    """Finds checkpoints, and files and folders of data sets, that do not exist."""
    named = [(key, parts.config.get(key)) for key in ("load_from", "resume")]
    for where, key, value in leaves(parts.model.config, "model"):
        if key in ("checkpoint_path", "init_weights"):
            named.append((where, value))
    for key, path in named:
        if isinstance(path, str) and path and not _is_remote(path) and not Path(path).exists():
            yield f"{key}: there is no file {path}.{did_you_mean(path)}"
    for dataset in parts.datasets:
        yield from dataset.missing_paths()


def _class_counts(parts: ConfigParts, paths: bool) -> Iterator[str]:
    """Finds data sets with another number of classes than the model; tasks compare their own heads when built."""
    for dataset in parts.datasets:
        try:
            names = dataset.class_names()
        except ValueError as error:
            if paths:
                yield f"{dataset.key}: {error}"
            continue
        given, argument = dataset.config.get("num_classes"), getattr(dataset.target, "classes_argument", "classes")
        if given is not None:
            count, source = given, "its num_classes"
        elif names is not None:
            found = "in its files" if dataset.config.get(argument) is None else f"its {argument}"
            count, source = len(names), found
        else:
            continue
        if parts.num_classes is not None and count != parts.num_classes:
            yield (
                f"{parts.classes_key}: is {parts.num_classes}, but {dataset.key} has {count} classes ({source}). Set "
                f"{parts.classes_key}={count}, or choose the classes with {dataset.key}.{argument}."
            )


def _forward(parts: ConfigParts) -> Iterator[str]:
    """Builds the model and sends images through it, without memory or arithmetic (PyTorch's meta device).

    For classification that is the backbone with one image of each size in the config. Detectors and segmentors take
    any size and are built with their heads.
    """
    if parts.kind == "classification":
        yield from _forward_backbone(parts)
    elif parts.has_separate_heads:
        yield from _forward_task(parts)


def _forward_backbone(parts: ConfigParts) -> Iterator[str]:
    backbone = parts.backbone
    if backbone is None:
        return
    try:
        with torch.device("meta"):
            model = MODELS.build(_without_weights(backbone.config)).eval()
    except Exception as error:  # code of any author, with values that it may not have been tried with
        yield f"{backbone.key}: {_reason(error)}"
        return
    least = getattr(model, "min_input_size", 1)
    name = f"{backbone.type} ({backbone.key})"
    sizes = {dataset.image_size: f"{dataset.key}.transform.size" for dataset in reversed(parts.datasets)}
    for size, key in reversed(sizes.items()):
        if size is None:
            continue
        if min(size) < least:
            yield f"{key}: is {size_text(size)}, but the smallest side that {name} takes is {least}."
            continue
        try:
            with torch.no_grad():
                model(torch.empty(1, backbone.config.get("in_chans") or 3, *size, device="meta"))
        except Exception as error:  # see above
            yield f"{key}: images of {size_text(size)} do not go through {name}: {_reason(error)}"


def _forward_task(parts: ConfigParts) -> Iterator[str]:
    model = dict(parts.model.config)
    if parts.backbone is not None:
        model["backbone"] = _without_weights(parts.backbone.config)
    try:
        with torch.device("meta"):
            task = MODELS.build(model).eval()
    except Exception as error:  # see `_forward_backbone`
        yield f"model: {_reason(error)}"
        return
    image = torch.empty(1, (model.get("backbone") or {}).get("in_chans") or 3, *_DENSE_SIZE, device="meta")
    try:
        with torch.no_grad():
            task(image=image, mode="tensor")
    except Exception as error:  # see `_forward_backbone`
        yield (
            f"model: an image does not go through the {parts.model.type}; its parts do not fit together: "
            f"{_reason(error)}"
        )


def _reason(error: Exception) -> str:
    """Describes an exception; one that is not about a value gets its type and the line that raised it."""
    if isinstance(error, ValueError) and str(error):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"


def _without_weights(backbone: Mapping[str, Any]) -> dict[str, Any]:
    return {**backbone, "pretrained": False, "checkpoint_path": None}


def _is_remote(path: str) -> bool:
    return "://" in path or path.startswith("hf-hub:")


def size_text(size: Any) -> str:
    """Formats a size as "224x224"."""
    return "x".join(map(str, size))
