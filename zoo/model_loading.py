"""Loads a model by the name of an entry point, from a saved model, or from a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..backbones.registry import is_model, split_model_name_tag
from .config import load_config
from .config.parts import backbone_of
from .factory import create_model
from .registry import MODELS
from .tasks import task_kind
from .weights import load_weights, weights_target
from .weights.sources import split_source

_DETECTOR_SIZE = (800, 1344)  # pixels: mmdetection's usual test image, padded to multiples of 32
_SEGMENTOR_SIZE = (512, 512)


@dataclass(frozen=True)
class LoadedModel:
    """A model and what is needed to prepare its images.

    Attributes:
        model: A backbone or a task, in evaluation mode.
        name: Name or path that it was loaded from.
        image_size: Usual height and width of its images in pixels.
        in_chans: Number of image channels.
        mean: Mean per channel, for pixel values in [0, 1].
        std: Standard deviation per channel, for pixel values in [0, 1].
        classes: Names of the classes; None if unknown.
        architecture: Entry point of the backbone.
    """

    model: nn.Module
    name: str
    image_size: tuple[int, int]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] | None
    architecture: str

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
        name: Name of a model, `hf-hub:owner/name`, `local-dir:folder`, or a config by path or name.
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
                weights, pretrained = None, False
            model: Any = create_model(name, pretrained, checkpoint_path=weights, num_classes=num_classes, **options)
            return _describe(model.eval(), name, model.pretrained_cfg)
        if pretrained or num_classes is not None:
            raise ValueError("--pretrained and --num-classes apply to a model's name; a config sets them itself.")
        if options:
            raise ValueError(f"{', '.join(options)} apply to a model's name; a config sets them itself.")
        return _load_config_model(name, weights, cfg_options, on_meta)


def _load_config_model(name: str, weights: str | None, cfg_options: Sequence[str], on_meta: bool) -> LoadedModel:
    cfg = load_config(name, cfg_options)
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
    if weights and not on_meta:
        load_weights(weights_target(task), weights)
    transform = (cfg.get("test_dataloader") or {}).get("dataset", {}).get("transform", {})
    size = transform.get("size") if isinstance(transform, Mapping) else None
    pretrained_cfg = getattr(getattr(task, "backbone", task), "pretrained_cfg", None)
    return _describe(task, name, pretrained_cfg, settings.get("data_preprocessor"), size)


def _describe(
    model: Any,
    name: str,
    pretrained_cfg: Mapping[str, Any] | None,
    preprocessor: Mapping[str, Any] | None = None,
    size: Any = None,
) -> LoadedModel:
    """Collects what is known about a model's images."""
    known = dict(pretrained_cfg or {})
    images = {**known, **(preprocessor or {})}
    usual = tuple(known.get("input_size", (3, 224, 224)))
    kind = task_kind(model)
    if isinstance(size, int):
        height, width = size, size
    elif kind == "classification":
        height, width = usual[1:]
    else:
        height, width = _DETECTOR_SIZE if kind == "detection" else _SEGMENTOR_SIZE
    backbone = getattr(model, "backbone", model)
    backbone = getattr(backbone, "body", backbone)
    classes = known.get("label_names")
    return LoadedModel(
        model=model,
        name=name,
        image_size=(height, width),
        in_chans=getattr(backbone, "in_chans", usual[0]),
        mean=tuple(images.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(images.get("std", (0.229, 0.224, 0.225))),
        classes=tuple(classes) if classes else None,
        architecture=str(known.get("architecture", type(backbone).__name__)),
    )
