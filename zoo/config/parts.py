"""The parts of a config, looked up once: its task, backbone, data sets and metrics. Checks work on these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...backbones.registry import get_pretrained_cfg
from ..evaluation.base import MetricInfo
from ..evaluation.lookup import evaluator_infos
from ..registry import DATASETS, HOOKS, MODELS, type_name

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@dataclass(frozen=True)
class Part:
    """A dict(type=...) of a config.

    Attributes:
        key: Its dotted key.
        config: The dict.
        target: The registered class or function.
    """

    key: str
    config: Mapping[str, Any]
    target: Any

    @property
    def type(self) -> str:
        """The registered name, without the scope."""
        return type_name(self.config["type"])

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {key: value for key, value in self.config.items() if key not in ("type", "_scope_")}


@dataclass(frozen=True)
class DatasetPart(Part):
    """A data set of a config; `key` begins with its data loader's."""

    @property
    def kind(self) -> str | None:
        """Kind of task that the data set is for; None if its class does not tell."""
        return getattr(self.target, "kind", None)

    @property
    def is_training(self) -> bool:
        """Whether it is the training data."""
        return self.key.startswith("train_")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels that the transform returns; None if they are not fixed."""
        transform = self.config.get("transform")
        size = transform.get("size") if isinstance(transform, Mapping) else None
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            return size[0], size[1]
        return None

    def class_names(self) -> tuple[str, ...] | None:
        """Returns the class names; None if only the built data set knows them.

        Raises:
            ValueError: The config names a file of class names that does not exist or is wrong.
        """
        find = getattr(self.target, "class_names", None)
        return None if find is None else find(**self.arguments)

    def missing_paths(self) -> Iterator[str]:
        """Yields a message with the full key for each file or folder that is missing."""
        find = getattr(self.target, "check_paths", None)
        for problem in () if find is None else find(**self.arguments):
            yield f"{self.key}.{problem}"


@dataclass(frozen=True)
class ConfigParts:
    """The parts of a config whose keys and types are right.

    Attributes:
        config: The complete config.
        model: The task, or a backbone alone.
        backbone: The backbone, if it is one that `create_model` builds.
        classes_key: Dotted key of the number of classes.
        num_classes: The number of classes; None if the config does not tell.
        datasets: The data sets of all data loaders, inside of their wrappers.
        metrics: What the validation reports; None if that is only known after an evaluation.
    """

    config: Mapping[str, Any]
    model: Part
    backbone: Part | None
    classes_key: str
    num_classes: int | None
    datasets: tuple[DatasetPart, ...]
    metrics: list[MetricInfo] | None

    @property
    def kind(self) -> str | None:
        """Kind of the task; a backbone alone classifies. None if the task's class does not tell."""
        if self.backbone is not None and self.backbone.key == "model":
            return "classification"
        return getattr(self.model.target, "kind", None)

    @property
    def has_separate_heads(self) -> bool:
        """Whether heads are outside of the backbone, so that checkpoints of the task hold both."""
        return bool(getattr(self.model.target, "has_separate_heads", False))


def config_parts(cfg: Mapping[str, Any]) -> ConfigParts:
    """Looks up the parts of a config.

    Args:
        cfg: A config with a model whose keys and types are right.
    """
    model = Part("model", cfg["model"], MODELS.get(cfg["model"]["type"]))
    found = backbone_of(cfg)
    backbone = None if found is None else Part(*found, MODELS.get(found[1]["type"]))
    if backbone is not None and backbone.key == "model":
        classes_key = "model.num_classes"
    else:
        classes_key = getattr(model.target, "classes_key", "model.num_classes")
    num_classes = _look_up(cfg, classes_key)
    if num_classes is None and backbone is not None and classes_key == f"{backbone.key}.num_classes":
        num_classes = get_pretrained_cfg(backbone.type).num_classes
    datasets = tuple(_datasets(cfg))
    return ConfigParts(
        config=cfg,
        model=model,
        backbone=backbone,
        classes_key=classes_key,
        num_classes=num_classes if isinstance(num_classes, int) else None,
        datasets=datasets,
        metrics=_metrics(cfg, datasets),
    )


def backbone_of(cfg: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Finds the backbone of a config's model.

    Returns:
        Its dotted key and its dict, if its type is a registered backbone.
    """
    model = cfg.get("model") or {}
    for key, part in (("model.backbone", model.get("backbone")), ("model", model)):
        if isinstance(part, Mapping) and isinstance(part.get("type"), str) and MODELS.is_backbone(part["type"]):
            return key, part
    return None


def has_separate_heads(cfg: Mapping[str, Any]) -> bool:
    """Whether a config's model is a task with heads outside of its backbone: a detector, a segmentor or a probe."""
    return bool(getattr(MODELS.get(cfg["model"]["type"]), "has_separate_heads", False))


def leaves(value: Any, where: str = "", key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yields the dotted key, the last key and the value of everything that is not a container."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{where}.{name}" if where else str(name), str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{where}.{index}", "")
    else:
        yield where, key, value


def _datasets(cfg: Mapping[str, Any]) -> Iterator[DatasetPart]:
    for loader in LOADERS:
        yield from _unwrapped(f"{loader}.dataset", (cfg.get(loader) or {}).get("dataset"))


def _unwrapped(key: str, config: Any) -> Iterator[DatasetPart]:
    """Yields a data set, or the data sets inside of a wrapper such as `RepeatDataset` or `ConcatDataset`."""
    if not isinstance(config, Mapping) or "type" not in config:
        return
    inner, several = config.get("dataset"), config.get("datasets")
    if isinstance(inner, Mapping):
        yield from _unwrapped(f"{key}.dataset", inner)
    elif isinstance(several, list | tuple):
        for index, one in enumerate(several):
            yield from _unwrapped(f"{key}.datasets.{index}", one)
    else:
        yield DatasetPart(key, config, DATASETS.get(config["type"]))


def _metrics(cfg: Mapping[str, Any], datasets: tuple[DatasetPart, ...]) -> list[MetricInfo] | None:
    validation = next((dataset for dataset in datasets if dataset.key.startswith("val_")), None)
    try:
        classes = None if validation is None else validation.class_names()
    except ValueError:  # a missing file is reported by other checks, if paths are checked
        classes = None
    return reported_metrics(cfg, classes)


def reported_metrics(cfg: Mapping[str, Any], classes: Sequence[str] | None) -> list[MetricInfo] | None:
    """Describes what validation reports: the values of its metrics, and those that hooks add.

    Args:
        cfg: A config.
        classes: Class names of the validation data; None if they are not known yet.

    Returns:
        None if the names are only known after an evaluation.
    """
    infos = evaluator_infos(cfg.get("val_evaluator"), classes)
    if infos is None:
        return None
    added: list[MetricInfo] = []
    for hook in cfg.get("custom_hooks") or ():
        if isinstance(hook, Mapping):
            describe = getattr(HOOKS.get(hook["type"]), "metric_infos", None)
            arguments = {key: value for key, value in hook.items() if key not in ("type", "priority", "_scope_")}
            added += describe(infos, **arguments) if describe is not None else []
    return infos + added


def _look_up(cfg: Mapping[str, Any], key: str) -> Any:
    here: Any = cfg
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here
