"""Whether the parts of a config fit together: class counts, image sizes, schedule, and what must lie on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...names import unknown_name
from ..data.common.checks import check_num_classes, check_same_classes
from ..evaluation import evaluator_infos
from ..registry import MODELS
from ..training.placement import bare
from .data_consistency import class_counts, missing_paths, size_text, sizes
from .parts import backbone_of, datasets, image_sizes, is_headed, leaves, probe_of

_TRIED_SIZE = (96, 128)  # of the image that a detector or segmentor is tried with, which takes any size


def find_contradictions(cfg: Mapping[str, Any], paths: bool = True) -> list[str]:
    """Finds what cannot work although every single key is right.

    Args:
        cfg: a config whose keys and types were checked.
        paths: also look at the disk.

    Returns:
        One line for each contradiction, with the dotted keys.
    """
    found = [*_numbers(cfg), *_schedules(cfg), *_best_metric(cfg), *_channels(cfg), *sizes(cfg)]
    if paths:
        found += missing_paths(cfg)
    if not found:
        found += [*class_counts(cfg, paths), *_forwards(cfg)]
    return found


def check_built(runner: Any) -> None:
    """Checks what only the built data sets tell, before the first step; logs what is odd but no error.

    Args:
        runner: a Runner whose loops are built.

    Raises:
        ValueError: the model and a data set differ in their classes, two data sets do, or a data set's own check finds
            an error.
    """
    model: Any = bare(runner.model)
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


def _numbers(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Numbers out of their range, wherever their key is, for those keys that always mean the same."""
    at_least = {
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
    below_one = ("drop_path_rate", "drop_rate", "proj_drop_rate", "label_smoothing")
    for where, key, value in leaves(cfg):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if key in at_least and value < at_least[key]:
            yield f"{where}: is {value}, must be at least {at_least[key]}."
        elif key in below_one and not 0 <= value < 1:
            yield f"{where}: is {value}, must be at least 0 and less than 1."
        elif key == "max_norm" and value <= 0:
            yield f"{where}: is {value}, must be more than 0."


def _schedules(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Schedules that do not fit into the training, or lead nowhere."""
    loop = cfg.get("train_cfg") or {}
    length = loop.get("max_epochs")
    base = ((cfg.get("optim_wrapper") or {}).get("optimizer") or {}).get("lr")
    given = cfg.get("param_scheduler")
    several = isinstance(given, list | tuple)
    for index, schedule in enumerate(given if several else [given] if given else []):
        where = f"param_scheduler.{index}" if several else "param_scheduler"
        spans = {key: schedule.get(key) or 0 for key in ("warmup_epochs", "cooldown_epochs")}
        for key in (*spans, "warmup_iters", "cooldown_iters"):
            if (schedule.get(key) or 0) < 0:
                yield f"{where}.{key}: is {schedule[key]}, must not be negative."
        if length is not None and sum(spans.values()) >= length:
            yield (
                f"{where}: warmup_epochs ({spans['warmup_epochs']}) and cooldown_epochs ({spans['cooldown_epochs']}) "
                f"leave nothing of train_cfg.max_epochs ({length}) for the decay."
            )
        begin, end = schedule.get("begin", 0), schedule.get("end")
        if end is not None and begin >= end:
            yield f"{where}.end: is {end}, must be more than begin, which is {begin}."
        for key in ("min_lr", "eta_min", "warmup_lr"):
            rate = schedule.get(key)
            if base is not None and rate is not None and rate > base:
                yield f"{where}.{key}: is {rate}, more than optim_wrapper.optimizer.lr, which is {base}."


def _best_metric(cfg: Mapping[str, Any]) -> Iterator[str]:
    """A metric to keep the best checkpoint by that no evaluation will give."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    wanted = hook.get("save_best")
    if not wanted or not cfg.get("val_evaluator"):
        return
    infos = evaluator_infos(cfg["val_evaluator"])
    if infos is None:
        return
    names = [info.name for info in infos]
    names += [
        f"raw_{name}" for name in names if any(hook.get("evaluate_raw") for hook in cfg.get("custom_hooks") or ())
    ]
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if name not in names:
            yield f"default_hooks.checkpoint.save_best: {unknown_name('metric of val_evaluator', name, names)}"


def _channels(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Models and normalisation for another number of channels than the images have, which are always RGB."""
    backbone = backbone_of(cfg)
    if backbone is not None and backbone[1].get("in_chans", 3) != 3 and any(datasets(cfg)):
        yield f"{backbone[0]}.in_chans: is {backbone[1]['in_chans']}, but the data sets give images of 3 channels."
    preprocessor = (cfg.get("model") or {}).get("data_preprocessor") or {}
    for key in ("mean", "std"):
        values = preprocessor.get(key)
        if isinstance(values, list | tuple) and len(values) != 3:
            yield f"model.data_preprocessor.{key}: has {len(values)} values, but images have 3 channels."


def _forward(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Sends one image of each size through the backbone, without memory or arithmetic (PyTorch's meta device)."""
    backbone = backbone_of(cfg)
    if backbone is None:
        return
    where, part = backbone
    bare = {**part, "pretrained": False, "checkpoint_path": None}
    try:
        with torch.device("meta"):
            model = MODELS.build(bare).eval()
    except (ValueError, TypeError) as error:
        yield f"{where}: {error}"
        return
    least = getattr(model, "min_input_size", 1)
    seen: set[tuple[int, int]] = set()
    for key, size in image_sizes(cfg):
        if size in seen:
            continue
        seen.add(size)
        if min(size) < least:
            yield f"{key}: is {size_text(size)}, but the least side that {part['type']} ({where}) takes is {least}."
            continue
        try:
            with torch.no_grad():
                model(torch.empty(1, part.get("in_chans") or 3, *size, device="meta"))
        except (ValueError, RuntimeError) as error:
            yield f"{key}: images of {size_text(size)} do not go through {part['type']} ({where}): {error}"


def _forwards(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Sends images through the backbone of a classifier or probe, which needs their sizes, or through a whole task."""
    return _forward_whole(cfg) if is_headed(cfg) and probe_of(cfg) is None else _forward(cfg)


def _forward_whole(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Builds a task with its heads and sends one image through, on PyTorch's meta device."""
    model = dict(cfg["model"])
    if backbone_of(cfg) is not None:
        model["backbone"] = {**model["backbone"], "pretrained": False, "checkpoint_path": None}
    try:
        with torch.device("meta"):
            task = MODELS.build(model).eval()
    except (ValueError, TypeError) as error:
        yield f"model: {error}"
        return
    image = torch.empty(1, (model.get("backbone") or {}).get("in_chans") or 3, *_TRIED_SIZE, device="meta")
    try:
        with torch.no_grad():
            task(image=image, mode="tensor")
    except (ValueError, RuntimeError) as error:
        yield f"model: an image does not go through the {model['type']}; its parts do not fit together: {error}"
