"""Turns a classifier, which maps images to logits, into a task with the preprocessing of its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..preprocessing import Preprocessing
from ..registry import TRANSFORMS
from ..tasks.classification import Classifier
from ..tasks.preprocessing import ImagePreprocessor

_logger = logging.getLogger(__name__)


def build_classifier_task(model: Any, has_transform: bool, name: str) -> Classifier:
    """Builds a task around a classifier.

    Args:
        model: Module that maps images to logits. Its `pretrained_cfg`, if it has one, provides mean and std.
        has_transform: Whether the user provides a transform.
        name: Name of the model for messages.

    Returns:
        The task. Its `num_classes` is 0 if the number is unknown.

    Raises:
        ValueError: The model has no classifier, or neither a `pretrained_cfg` nor a transform.
    """
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if not cfg and not has_transform:
        raise ValueError(
            f"A {type(model).__name__} needs a transform, such as dict(type='Evaluation', size=224), because it has no "
            "pretrained_cfg that describes the preprocessing."
        )
    preprocessor: nn.Module = (
        ImagePreprocessor(cfg["mean"], cfg["std"]) if cfg else _FloatImagePreprocessor(type(model).__name__)
    )
    if getattr(model, "num_classes", 0) >= 1:
        return Classifier(model, data_preprocessor=preprocessor)
    if cfg:
        raise ValueError(f"{name} has no classifier: num_classes is 0.")
    task = Classifier(_AnyNumberOfClasses(model), data_preprocessor=preprocessor)
    task.num_classes = 0
    return task


def evaluation_transform(cfg: Mapping[str, Any]) -> Callable[..., Any]:
    """Builds the transform that a model's published accuracy was measured with.

    Args:
        cfg: The model's `pretrained_cfg`. A larger `test_input_size` takes precedence over `input_size`.
    """
    if cfg.get("transform"):
        _logger.warning(
            "The weights were evaluated with the transform %s, which is not restored; images are prepared with %s "
            "pixels and crop_pct %s instead. Pass transform= to use the original one.",
            cfg["transform"].get("type"),
            cfg["input_size"],
            cfg["crop_pct"],
        )
    images = Preprocessing.from_pretrained_cfg(cfg)
    return TRANSFORMS.build(
        {
            "type": "Evaluation",
            "size": images.evaluation_size,
            "crop_pct": images.evaluation_crop_pct,
            "crop_mode": images.crop_mode or "center",
            "interpolation": images.interpolation,
            "mean": images.mean,
        }
    )


class _FloatImagePreprocessor(ImagePreprocessor):
    """Moves images to the device, but does not normalize them: the user's transform has done so.

    Args:
        model_name: Class of the model, for messages.
    """

    def __init__(self, model_name: str) -> None:
        super().__init__()
        self.model_name = model_name

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch; raises a ValueError for integer pixels, which cannot be normalized."""
        if not data["image"].is_floating_point():
            raise ValueError(
                f"The transform returns {data['image'].dtype}, and {self.model_name} has no pretrained_cfg with a mean "
                "and std: the transform must return normalized floats."
            )
        return {**data, "image": data["image"].to(self.device)}


class _AnyNumberOfClasses(nn.Module):
    """A classifier without an attribute `num_classes`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.num_classes = 1  # `Classifier` requires a positive number; predictions do not depend on it

    def forward(self, image: Any) -> Any:
        """Returns the model's logits."""
        return self.model(image)
