"""Whether the parts of a config fit together: class counts, image sizes, schedule, and what must lie on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ...backbones.registry import get_pretrained_cfg
from ...names import nearest_names, unknown_name
from ..data.classification import check_num_classes, check_same_classes
from ..data.sources import load_class_map
from ..registry import MODELS
from ..training.placement import bare

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def find_contradictions(cfg: Mapping[str, Any], paths: bool = True) -> list[str]:
    """Finds what cannot work although every single key is right.

    Args:
        cfg: a config whose keys and types were checked.
        paths: also look at the disk.

    Returns:
        One line for each contradiction, with the dotted keys.
    """
    found = [*_numbers(cfg), *_schedules(cfg), *_best_metric(cfg), *_channels(cfg), *_sizes(cfg)]
    if paths:
        found += _paths(cfg)
    if not found:
        found += [*_class_counts(cfg, paths), *_forward(cfg)]
    return found


def check_built(runner: Any) -> None:
    """Checks what only the built data sets tell, before the first step.

    Args:
        runner: a Runner whose loops are built.

    Raises:
        ValueError: the model and a data set differ in their classes, or two data sets do.
    """
    model: Any = bare(runner.model)
    loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
    data = [loop.dataloader.dataset for loop in loops]
    if not hasattr(model, "num_classes") or not all(hasattr(dataset, "classes") for dataset in data):
        return
    for dataset in data:
        check_num_classes(model.num_classes, dataset)
    for dataset in data[1:]:
        check_same_classes(data[0], dataset)


def backbone_of(cfg: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Finds the backbone of a config's model.

    Returns:
        Its dotted key and its dict, whose type is a registered backbone; None where there is none.
    """
    model = cfg.get("model") or {}
    for where, part in (("model.backbone", model.get("backbone")), ("model", model)):
        if isinstance(part, Mapping) and isinstance(part.get("type"), str) and MODELS.is_backbone(part["type"]):
            return where, part
    return None


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
    for where, key, value in _leaves(cfg):
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
    given = cfg.get("val_evaluator")
    metrics = [given] if isinstance(given, Mapping) else given or []
    if not wanted or not given or any(metric.get("type") not in ("Accuracy", "PredictionWriter") for metric in metrics):
        return  # other metrics' names are not known before they are computed
    names = []
    for metric in metrics:
        if metric["type"] == "Accuracy":
            prefix = f"{metric['prefix']}/" if metric.get("prefix") else ""
            names += [f"{prefix}top{k}" for k in metric.get("topk", (1, 5))]
            names += [f"{prefix}mean_class_top1"] if metric.get("per_class") else []
    names += [
        f"raw_{name}" for name in names if any(hook.get("evaluate_raw") for hook in cfg.get("custom_hooks") or ())
    ]
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if name not in names:
            yield f"default_hooks.checkpoint.save_best: {unknown_name('metric of val_evaluator', name, names)}"


def _channels(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Models and normalisation for another number of channels than the images have, which are always RGB."""
    backbone = backbone_of(cfg)
    if backbone is not None and backbone[1].get("in_chans", 3) != 3 and any(_datasets(cfg)):
        yield f"{backbone[0]}.in_chans: is {backbone[1]['in_chans']}, but the data sets give images of 3 channels."
    preprocessor = (cfg.get("model") or {}).get("data_preprocessor") or {}
    for key in ("mean", "std"):
        values = preprocessor.get(key)
        if isinstance(values, list | tuple) and len(values) != 3:
            yield f"model.data_preprocessor.{key}: has {len(values)} values, but images have 3 channels."


def _sizes(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Image sizes that differ where they must not."""
    sizes = dict(_image_sizes(cfg))
    backbone = backbone_of(cfg)
    if backbone is None:
        return
    where, part = backbone
    published = get_pretrained_cfg(part["type"].removeprefix("attnzoo."))
    for key, size in sizes.items():
        if published.fixed_input_size and size != tuple(published.input_size[1:]):
            fixed = _size(published.input_size[1:])
            yield f"{key}: is {_size(size)}, but {part['type']} ({where}) takes {fixed} alone."
    evaluation = {key: size for key, size in sizes.items() if key.startswith("val_")}
    training = next(((key, size) for key, size in sizes.items() if key.startswith("train_")), None)
    for key, size in evaluation.items():
        if training is not None and min(size) < min(training[1]):
            yield f"{key}: is {_size(size)}, smaller than the training images, {_size(training[1])} ({training[0]})."


def _paths(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Files and folders that are not there."""
    for key, value in (("load_from", cfg.get("load_from")), ("resume", cfg.get("resume"))):
        if isinstance(value, str) and value and not _is_remote(value) and not Path(value).exists():
            yield f"{key}: there is no file {value}.{_near(value)}"
    for where, key, value in _leaves(cfg.get("model"), "model"):
        if key in ("checkpoint_path", "init_weights") and value and not _is_remote(value) and not Path(value).exists():
            yield f"{where}: there is no file {value}.{_near(value)}"
    for where, dataset in _datasets(cfg):
        root, split = dataset.get("root"), dataset.get("split")
        if not root or dataset.get("reader") == "hfds" or root.startswith("hfds/"):
            continue
        if not Path(root).exists():
            yield f"{where}.root: there is no {root} (from {os.getcwd()}).{_near(root)}"
        elif split and Path(root).is_dir():
            places = (Path(root) / split, Path(root) / f"{split}.tar")
            if not any(place.exists() for place in places) and not dataset.get("annotations"):
                yield f"{where}.split: there is neither a folder {places[0]} nor {places[1].name}.{_near(places[0])}"


def _class_counts(cfg: Mapping[str, Any], paths: bool) -> Iterator[str]:
    """Models and data sets with different numbers of classes."""
    backbone = backbone_of(cfg)
    if backbone is None:
        return
    where, part = backbone
    expected = part.get("num_classes")
    if expected is None:
        expected = get_pretrained_cfg(part["type"].removeprefix("attnzoo.")).num_classes
    for key, dataset in _datasets(cfg):
        counted = _count_classes(dataset, paths)
        if counted is not None and counted[0] != expected:
            number, how = counted
            yield (
                f"{where}.num_classes: is {expected}, but {key} has {number} classes ({how}). Set {where}.num_classes="
                f"{number}, or give {key}.class_map where some classes have no images."
            )


def _count_classes(dataset: Mapping[str, Any], paths: bool) -> tuple[int, str] | None:
    """Counts a data set's classes without reading all of it.

    Returns:
        The number and how it was found; None where only the images themselves tell.
    """
    if dataset.get("num_classes") is not None:
        return dataset["num_classes"], "its num_classes"
    root, class_map = dataset.get("root") or "", dataset.get("class_map")
    if class_map is not None:
        if not paths and isinstance(class_map, str) and not class_map.startswith("imagenet"):
            return None
        return max(load_class_map(class_map, root).values()) + 1, "its class_map"
    folder = Path(root) / (dataset.get("split") or "")
    if not paths or dataset.get("annotations") or dataset.get("reader", "auto") not in ("auto", "folder"):
        return None
    if not folder.is_dir() or any(folder.glob("*.tar")):
        return None
    folders = [entry for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    if any(inner.is_dir() for entry in folders for inner in os.scandir(entry.path)):
        return None  # nested folders: the data set finds out which of them are classes
    return len(folders), f"folders in {folder}"


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
    for key, size in _image_sizes(cfg):
        if size in seen:
            continue
        seen.add(size)
        if min(size) < least:
            yield f"{key}: is {_size(size)}, but the least side that {part['type']} ({where}) takes is {least}."
            continue
        try:
            with torch.no_grad():
                model(torch.empty(1, part.get("in_chans") or 3, *size, device="meta"))
        except (ValueError, RuntimeError) as error:
            yield f"{key}: images of {_size(size)} do not go through {part['type']} ({where}): {error}"


def _datasets(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields every classification data set of the config, also those inside of wrappers."""
    for name in LOADERS:
        dataset, where = (cfg.get(name) or {}).get("dataset"), f"{name}.dataset"
        while isinstance(dataset, Mapping) and "root" not in dataset and isinstance(dataset.get("dataset"), Mapping):
            dataset, where = dataset["dataset"], f"{where}.dataset"
        if isinstance(dataset, Mapping):
            yield where, dataset


def _image_sizes(cfg: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields each data set's image size (height, width) in pixels with its key, where the transform has a `size`."""
    for where, dataset in _datasets(cfg):
        size = (dataset.get("transform") or {}).get("size")
        if isinstance(size, int):
            yield f"{where}.transform.size", (size, size)
        elif isinstance(size, list | tuple) and len(size) == 2:
            yield f"{where}.transform.size", (size[0], size[1])


def _leaves(value: Any, where: str = "", key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yields the dotted key, last key and value of everything that is no container."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{where}.{name}" if where else str(name), str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{where}.{index}", "")
    else:
        yield where, key, value


def _is_remote(path: str) -> bool:
    return "://" in path or path.startswith("hf-hub:")


def _near(path: str | os.PathLike[str]) -> str:
    """Names what lies where a path breaks off."""
    path = Path(path)
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    near = nearest_names(path.name, (entry.name for entry in parent.iterdir())) if parent.is_dir() else []
    return f" Did you mean {' or '.join(str(parent / name) for name in near)}?" if near else ""


def _size(size: Any) -> str:
    return "x".join(map(str, size))
