"""How images are prepared for a model: the knowledge that travels with its weights.

A `Preprocessing` is written into training checkpoints, saved models and exported files, and read by whatever loads
them. Fields that also exist in `PretrainedCfg` have the same names and meanings.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..names import unknown_name

_logger = logging.getLogger(__name__)

_SEQUENCES: dict[str, tuple[type | tuple[type, ...], int | None]] = {
    "mean": ((int, float), None),
    "std": ((int, float), None),
    "input_size": (int, 3),
    "test_input_size": (int, 3),
    "label_names": (str, None),
}
_SCALARS: dict[str, type | tuple[type, ...]] = {
    "crop_pct": (int, float),
    "crop_mode": str,
    "interpolation": str,
    "test_crop_pct": (int, float),
    "transform": Mapping,
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing and class names of a model. None stands for unknown.

    Attributes:
        mean: Mean per channel, for pixel values in [0, 1].
        std: Standard deviation per channel, for pixel values in [0, 1].
        input_size: Channels, height and width of the images in pixels.
        crop_pct: Side of the crop relative to the shorter side of the resized image.
        crop_mode: timm's crop mode.
        interpolation: timm's name of the interpolation.
        test_input_size: Larger size at which the accuracy is higher, if there is one.
        test_crop_pct: `crop_pct` at `test_input_size`.
        label_names: Class names in the order of the outputs.
        transform: Config of the evaluation's transform if the fields above do not describe it, as for detectors.

    Raises:
        ValueError: A field has a wrong type or value.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int, int] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    test_input_size: tuple[int, int, int] | None = None
    test_crop_pct: float | None = None
    label_names: tuple[str, ...] | None = None
    transform: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, (kind, length) in _SEQUENCES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, str) or not isinstance(value, Sequence) or length not in (None, len(value)):
                raise ValueError(f"{name} must be a sequence of {length or 'any number of'} values, got {value!r}.")
            if not all(isinstance(one, kind) and not isinstance(one, bool) for one in value):
                raise ValueError(f"{name} has a value of a wrong type: {value!r}.")
            object.__setattr__(self, name, tuple(value))
        for name, kind in _SCALARS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ValueError(f"{name} has a wrong type: {value!r}.")

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: There is an unknown field, or one has a wrong type.
        """
        for name in given:
            if name not in _NAMES:
                raise ValueError(unknown_name("field of a preprocessing", str(name), _NAMES))
        return cls(**given)

    @classmethod
    def from_pretrained_cfg(cls, cfg: Mapping[str, Any] | None) -> Preprocessing:
        """Reads the fields of a model's `pretrained_cfg`; others are ignored.

        A model that takes no other size than `input_size` has no `test_input_size`.
        """
        fields = {name: value for name, value in (cfg or {}).items() if name in _NAMES}
        if (cfg or {}).get("fixed_input_size"):
            fields |= {"test_input_size": None, "test_crop_pct": None}
        return cls(**fields)

    @classmethod
    def from_model(cls, model: nn.Module) -> Preprocessing:
        """Describes a model in memory: its `pretrained_cfg`, overridden by the preprocessor of a task around it."""
        if getattr(model, "kind", "classification") == "classification":
            known = cls.from_pretrained_cfg(getattr(getattr(model, "backbone", model), "pretrained_cfg", None))
        else:  # the backbone's configuration is that of a classifier
            known = getattr(model, "preprocessing", None) or cls()
        own = cls.from_task(model)
        return dataclasses.replace(known, mean=own.mean or known.mean, std=own.std or known.std)

    @classmethod
    def from_task(
        cls, task: nn.Module, transform: Any = None, label_names: Sequence[str] | None = None
    ) -> Preprocessing:
        """Describes how a task is evaluated.

        Args:
            task: A task, whose data preprocessor normalizes images.
            transform: Config of the transform that it is evaluated with; None if it is unknown.
            label_names: Class names in the order of the outputs.
        """
        preprocessor = getattr(task, "data_preprocessor", None)
        mean, std = (_numbers(getattr(preprocessor, name, None)) for name in ("mean", "std"))
        names = tuple(label_names) if label_names else None
        fields = {} if transform is None else _describe_transform(transform, mean or ())
        return cls(mean, std, label_names=names, **fields)

    @classmethod
    def from_config(cls, cfg: Any, task: nn.Module, label_names: Sequence[str] | None = None) -> Preprocessing:
        """Describes how a config evaluates its task: with the transform of its test data, or of its validation data.

        Args:
            cfg: The config: a dict, or mmengine's Config, which is not a Mapping.
            task: The task that was built from it.
            label_names: Class names in the order of the outputs.
        """
        return cls.from_task(task, evaluation_dataset(cfg).get("transform"), label_names)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that are known, as plain types."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }

    @property
    def evaluation_size(self) -> tuple[int, int] | None:
        """Height and width of the images in an evaluation, in pixels."""
        size = self.test_input_size or self.input_size
        return None if size is None else (size[1], size[2])

    @property
    def evaluation_crop_pct(self) -> float | None:
        """Side of the crop in an evaluation, relative to the shorter side of the resized image."""
        return (self.test_crop_pct if self.test_input_size else None) or self.crop_pct

    def to_cfg(self, pretrained_cfg: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a `pretrained_cfg` with the known fields of this preprocessing, and the class names if it has any."""
        cfg = dict(pretrained_cfg)
        fields = {name: getattr(self, name) for name in self.to_dict()}
        if self.input_size is not None:
            for name in ("test_input_size", "test_crop_pct", "transform"):  # they belong to the previous size
                cfg.pop(name, None)
            if tuple(cfg.get("input_size") or ()) != self.input_size and "pool_size" in cfg:
                cfg["pool_size"] = None
        return {**cfg, **fields}

    def write_to(self, model: nn.Module) -> None:
        """Updates the `pretrained_cfg` of a model, or of a task's backbone, when its weights have been loaded.

        Class names are written if the model has as many classes; names that it had before are removed. A task also gets
        the attribute `preprocessing`.
        """
        if hasattr(model, "data_preprocessor"):
            model.preprocessing = self  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        backbone: Any = getattr(model, "backbone", model)
        if not isinstance(getattr(backbone, "pretrained_cfg", None), Mapping):
            return
        names = self.label_names or ()
        fits = bool(names) and len(names) == getattr(backbone, "num_classes", 0)
        cfg = self.to_cfg(backbone.pretrained_cfg)
        cfg.pop("label_names", None)
        if fits:
            cfg |= {"label_names": names, "num_classes": len(names)}
        for module in (backbone, getattr(backbone, "body", None)):
            if module is not None:
                module.pretrained_cfg = module.default_cfg = cfg

    def to_metadata(self, image_size: Sequence[int], prefix: str = "attnzoo.") -> dict[str, str]:
        """Returns the fields of an evaluation as texts, for the metadata of an exported file.

        Args:
            image_size: Height and width of the file's images in pixels.
            prefix: Prefix of the names.
        """
        fields = {
            "image_size": list(image_size),
            "mean": self.mean,
            "std": self.std,
            "crop_pct": self.evaluation_crop_pct,
            "crop_mode": self.crop_mode,
            "interpolation": self.interpolation,
            "transform": self.transform,
            "classes": self.label_names,
        }
        return {
            prefix + name: value if isinstance(value, str) else json.dumps(value)
            for name, value in fields.items()
            if value is not None
        }


def warn_of_difference(carried: Preprocessing | None, own: Preprocessing, source: str, title: str) -> None:
    """Logs a warning if weights were trained with another preprocessing than that of a task, which is used.

    Args:
        carried: What the weights carry; None if they carry nothing.
        own: The preprocessing of the task.
        source: Where the weights came from.
        title: Name of the task or its config.
    """
    theirs, ours = ({} if one is None else one.to_dict() for one in (carried, own))
    different = [name for name in theirs if name in ours and name != "label_names" and theirs[name] != ours[name]]
    if different:
        listed = "; ".join(f"{name} {theirs[name]}, not {ours[name]}" for name in different)
        _logger.warning(
            "%s were trained with another preprocessing than that of %s, which is used: %s.", source, title, listed
        )


def evaluation_dataset(cfg: Any) -> Mapping[str, Any]:
    """Returns the config of the data set that a config's model is tested on, or else validated; empty without one."""
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
    return dataset if isinstance(dataset, Mapping) else {}


_NAMES = {field.name for field in dataclasses.fields(Preprocessing)}


def _numbers(values: Any) -> tuple[float, ...] | None:
    """Returns float32 values as the shortest decimal numbers that stand for them: 0.485, not 0.48500001."""
    if values is None or getattr(values, "is_meta", False):
        return None
    flat = values.flatten().tolist() if isinstance(values, torch.Tensor) else values
    return tuple(float(str(np.float32(value))) for value in flat)


def _describe_transform(transform: Any, mean: tuple[float, ...]) -> dict[str, Any]:
    """Returns the fields that describe a transform, given as its config or as an object.

    A transform describes itself by an attribute `preprocessing`, as `Evaluation` does.
    """
    if isinstance(transform, Mapping):
        from .registry import TRANSFORMS

        built: Any = TRANSFORMS.build(dict(transform))
    else:
        built = transform
    settings = dict(getattr(built, "preprocessing", None) or {})
    if not settings or tuple(settings.pop("mean", mean)) != mean:  # the color of a border, which must be the mean
        return {"transform": _plain(transform)}
    height, width = settings.pop("size")
    return {"input_size": (len(mean), height, width), **settings}


def _plain(transform: Any) -> dict[str, Any]:
    """Returns a transform's config in JSON's types; of an object, its class only."""
    if isinstance(transform, Mapping):
        return json.loads(json.dumps(transform, default=_type_name))
    return {"type": _type_name(transform)}


def _type_name(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
