"""The parts of a config that several checks look at: its backbone, its data sets, its leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..registry import MODELS

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


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


def is_headed(cfg: Mapping[str, Any]) -> bool:
    """Tells whether a config's model is a task whose heads stand beside its backbone: detector, segmentor or probe."""
    return bool(getattr(MODELS.get(cfg["model"]["type"]), "takes_whole_checkpoints", False))


def probe_of(cfg: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Finds the probe of a config's model, which classifies images in the place of its backbone."""
    probe = (cfg.get("model") or {}).get("probe")
    return probe if isinstance(probe, Mapping) else None


def heads_of(cfg: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Gives the dotted key and the value of each head's number of classes."""
    parts = {name: part for name, part in (cfg.get("model") or {}).items() if name.endswith("_head")}
    return [
        (f"model.{name}.num_classes", part["num_classes"])
        for name, part in parts.items()
        if isinstance(part, Mapping) and isinstance(part.get("num_classes"), int)
    ]


def datasets(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields every data set of the config, also those inside of wrappers."""
    for name in LOADERS:
        dataset, where = (cfg.get(name) or {}).get("dataset"), f"{name}.dataset"
        while isinstance(dataset, Mapping) and "root" not in dataset and isinstance(dataset.get("dataset"), Mapping):
            dataset, where = dataset["dataset"], f"{where}.dataset"
        if isinstance(dataset, Mapping):
            yield where, dataset


def image_sizes(cfg: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields each data set's image size (height, width) in pixels with its key, where the transform has a `size`."""
    for where, dataset in datasets(cfg):
        size = (dataset.get("transform") or {}).get("size")
        if isinstance(size, int):
            yield f"{where}.transform.size", (size, size)
        elif isinstance(size, list | tuple) and len(size) == 2:
            yield f"{where}.transform.size", (size[0], size[1])


def leaves(value: Any, where: str = "", key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yields the dotted key, last key and value of everything that is no container."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{where}.{name}" if where else str(name), str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{where}.{index}", "")
    else:
        yield where, key, value
