"""Loads a model by the name of an entry point, from a saved model, or from a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..backbones.registry import is_model, split_model_name_tag
from .config import load_config
from .config.parts import backbone_of
from .factory import create_model
from .inference.class_names import model_class_names
from .preprocessing import Preprocessing, evaluation_dataset, warn_of_difference
from .registry import MODELS
from .tasks import task_kind
from .tasks.base import is_task
from .weights import load_weights, weights_target
from .weights.sources import split_source
from .work_dir import CONFIG, find_best

_DETECTOR_SIZE = (800, 1344)  # pixels: mmdetection's usual test image, padded to multiples of 32
_SEGMENTOR_SIZE = (512, 512)
_RANDOM = "random weights"


@dataclass(frozen=True)
class LoadedModel:
    """A model and what is needed to prepare its images.

    Attributes:
        model: A backbone or a task, in evaluation mode.
        name: Name or path that it was loaded from.
        image_size: Usual height and width of its images in pixels.
        in_chans: Number of image channels.
        preprocessing: How images are prepared, and the names of the classes.
        architecture: Entry point of the backbone.
        weights: Where the weights came from: a source, "published", or "random weights".
    """

    model: nn.Module
    name: str
    image_size: tuple[int, int]
    in_chans: int
    preprocessing: Preprocessing
    architecture: str
    weights: str

    @property
    def has_random_weights(self) -> bool:
        """Whether no weights were loaded, so that outputs mean nothing."""
        return self.weights == _RANDOM

    @property
    def evaluation_size(self) -> tuple[int, int]:
        """Height and width that its images have in an evaluation; for some published weights larger than usual."""
        return self.preprocessing.evaluation_size or self.image_size

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, for pixel values in [0, 1]."""
        return self.preprocessing.mean or (0.0,) * self.in_chans

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, for pixel values in [0, 1]."""
        return self.preprocessing.std or (1.0,) * self.in_chans

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None if unknown."""
        return self.preprocessing.label_names

    @property
    def backbone(self) -> Any:
        """The backbone of a task, or the model itself."""
        inner = getattr(self.model, "backbone", None)
        return inner if isinstance(inner, nn.Module) else self.model


def load_model(
    name: str,
    *,
    weights: str | None = None,
    pretrained: bool = False,
    num_classes: int | None = None,
    cfg_options: Sequence[str] = (),
    on_meta: bool = False,
    **options: Any,
) -> LoadedModel:
    """Builds a model and loads its weights.

    Args:
        name: Name of a model, `hf-hub:owner/name`, `local-dir:folder`, a config by path or name, or the work dir of a
            training, whose best checkpoint is loaded.
        weights: A checkpoint in any published format: a file, a URL or `hf-hub:owner/name`.
        pretrained: Load the published weights of a model's name.
        num_classes: Number of classes of a model's name; None for that of its weights.
        cfg_options: Settings that override those of a config, as KEY=VALUE.
        on_meta: Build the model on PyTorch's meta device, without values or weights.
        **options: Further arguments of `create_model`, such as `features_only=True`; only for a model's name.

    Raises:
        ValueError: If there is no such model or config, an argument does not apply to it, or the weights do not fit.
    """
    with torch.device("meta" if on_meta else "cpu"):
        source = split_source(name)[0] if ":" in name else ""
        if source in ("hf-hub", "local-dir") or is_model(split_model_name_tag(name)[0]):
            if cfg_options:
                raise ValueError(f"--cfg-options are settings of a config, but {name} is a model.")
            if on_meta:
                weights = None
            model: Any = create_model(
                # None loads the weights of a saved model, which has no others.
                name,
                False if on_meta else pretrained or None,
                checkpoint_path=weights,
                num_classes=num_classes,
                **options,
            )
            images = Preprocessing.from_pretrained_cfg(model.pretrained_cfg)
            source = weights or ("published" if _has_weights(model) else _RANDOM)
            return _describe(model.eval(), name, images, source)
        if pretrained or num_classes is not None:
            raise ValueError("--pretrained and --num-classes apply to a model's name; a config sets them itself.")
        if options:
            raise ValueError(f"{', '.join(options)} apply to a model's name; a config sets them itself.")
        return _load_config_model(name, weights, cfg_options, on_meta)


def _load_config_model(name: str, weights: str | None, cfg_options: Sequence[str], on_meta: bool) -> LoadedModel:
    path = Path(name).expanduser()
    if is_work_dir := (path / CONFIG).is_file():
        weights = str(find_best(path)) if weights is None and not on_meta else weights
        path = path / CONFIG
    cfg = load_config(path if is_work_dir else name, cfg_options)
    if not cfg.get("model"):
        raise ValueError(f"The config {name} has no model.")
    found = backbone_of(cfg.to_dict())
    settings = cfg.model.to_dict()
    settings.pop("init_weights", None)  # the weights that training starts from
    inner = settings if found is None or found[0] == "model" else settings["backbone"]
    if weights or on_meta:
        for key in ("pretrained", "checkpoint_path"):
            inner.pop(key, None)
    task: Any = MODELS.build(settings).eval()
    carried = None
    if weights and not on_meta:
        carried = load_weights(weights_target(task), weights).preprocessing
    source = _RANDOM if on_meta or not (weights or _has_weights(task)) else (weights or "published")
    if not is_task(task):  # a backbone alone
        return _describe(task, name, Preprocessing.from_pretrained_cfg(task.pretrained_cfg), source)
    names, _ = model_class_names(
        evaluation_dataset(cfg), task.num_classes, carried and carried.label_names, [path.parent] if is_work_dir else []
    )
    images = Preprocessing.from_config(cfg, task, names)
    warn_of_difference(carried, images, f"The weights in {weights}", name)
    return _describe(task, name, images, source)


def _has_weights(task: Any) -> bool:
    """Reports whether weights were loaded when a model was built."""
    return hasattr(getattr(task, "backbone", task), "load_report")


def _describe(model: Any, name: str, preprocessing: Preprocessing, weights: str) -> LoadedModel:
    """Collects what is known about a model."""
    known: Mapping[str, Any] = getattr(getattr(model, "backbone", model), "pretrained_cfg", None) or {}
    kind = task_kind(model)
    if kind == "classification":
        # The size of published weights is the one that their operations were counted at.
        size = (preprocessing.input_size or known.get("input_size", (3, 224, 224)))[1:]
    else:
        size = _DETECTOR_SIZE if kind == "detection" else _SEGMENTOR_SIZE
    backbone = getattr(model, "backbone", model)
    backbone = getattr(backbone, "body", backbone)
    return LoadedModel(
        model=model,
        name=name,
        image_size=(size[0], size[1]),
        in_chans=getattr(backbone, "in_chans", 3),
        preprocessing=preprocessing,
        architecture=str(known.get("architecture", type(backbone).__name__)),
        weights=weights,
    )
