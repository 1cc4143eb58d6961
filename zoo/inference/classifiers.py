"""Turns a classifier, which maps images to logits, into a task with the preprocessing of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..registry import TRANSFORMS
from ..tasks.classification import Classifier
from ..tasks.preprocessing import ImagePreprocessor


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
    larger = None if cfg.get("fixed_input_size") else cfg.get("test_input_size")
    _, height, width = larger or cfg["input_size"]
    return TRANSFORMS.build(
        {
            "type": "Evaluation",
            "size": (int(height), int(width)),
            "crop_pct": (cfg.get("test_crop_pct") if larger else None) or cfg["crop_pct"],
            "crop_mode": cfg.get("crop_mode", "center"),
            "interpolation": cfg["interpolation"],
            "mean": cfg["mean"],
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
