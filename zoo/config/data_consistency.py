"""Whether data sets fit the model and each other, as far as a config and a look at the disk tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...backbones.registry import get_pretrained_cfg
from ...names import nearest_names
from ..data.classification.sources import load_class_map
from .parts import backbone_of, datasets, heads_of, image_sizes, is_headed, leaves, probe_of

_MADE = {"data/digits": "make_digits", "data/scenes": "make_scenes"}
"""The folders that a tool of this repository makes."""


def sizes(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Image sizes that differ where they must not."""
    given = dict(image_sizes(cfg))
    backbone = backbone_of(cfg)
    if backbone is None:
        return
    where, part = backbone
    published = get_pretrained_cfg(part["type"].removeprefix("attnzoo."))
    for key, size in given.items():
        if published.fixed_input_size and size != tuple(published.input_size[1:]):
            fixed = size_text(published.input_size[1:])
            yield f"{key}: is {size_text(size)}, but {part['type']} ({where}) takes {fixed} alone."
    evaluation = {key: size for key, size in given.items() if key.startswith("val_")}
    training = next(((key, size) for key, size in given.items() if key.startswith("train_")), None)
    for key, size in evaluation.items():
        if training is not None and min(size) < min(training[1]):
            yield (
                f"{key}: is {size_text(size)}, smaller than the training images, {size_text(training[1])} "
                f"({training[0]})."
            )


def missing_paths(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Files and folders that are not there."""
    for key, value in (("load_from", cfg.get("load_from")), ("resume", cfg.get("resume"))):
        if isinstance(value, str) and value and not _is_remote(value) and not Path(value).exists():
            yield f"{key}: there is no file {value}.{_near(value)}"
    for where, key, value in leaves(cfg.get("model"), "model"):
        if key in ("checkpoint_path", "init_weights") and value and not _is_remote(value) and not Path(value).exists():
            yield f"{where}: there is no file {value}.{_near(value)}"
    for where, dataset in datasets(cfg):
        root, split = dataset.get("root"), dataset.get("split")
        if not root or dataset.get("reader") == "hfds" or root.startswith("hfds/"):
            continue
        if not Path(root).exists():
            made = f" `python tools/{_MADE[root]}.py` makes it." if root in _MADE else ""
            yield f"{where}.root: there is no {root} (from {os.getcwd()}).{made}{_near(root)}"
        elif split and Path(root).is_dir() and dataset.get("type") == "ImageClassificationDataset":
            places = (Path(root) / split, Path(root) / f"{split}.tar")
            if not any(place.exists() for place in places) and not dataset.get("annotations"):
                yield f"{where}.split: there is neither a folder {places[0]} nor {places[1].name}.{_near(places[0])}"


def class_counts(cfg: Mapping[str, Any], paths: bool) -> Iterator[str]:
    """Heads, or models and data sets, with different numbers of classes."""
    backbone = backbone_of(cfg)
    heads = heads_of(cfg)
    for key, number in heads[1:]:
        if number != heads[0][1]:
            yield f"{key}: is {number}, but {heads[0][0]} is {heads[0][1]}: the heads need one number."
    probe = probe_of(cfg)
    if backbone is None or (is_headed(cfg) and probe is None):
        return  # what annotation files hold, the data sets tell when they are built
    where, part = backbone
    expected = part.get("num_classes")
    if probe is not None:  # its backbone has no classes
        where, expected = "model.probe", probe.get("num_classes")
    elif expected is None:
        expected = get_pretrained_cfg(part["type"].removeprefix("attnzoo.")).num_classes
    for key, dataset in datasets(cfg):
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


def size_text(size: Any) -> str:
    """Writes a size as people do: 224x224."""
    return "x".join(map(str, size))
