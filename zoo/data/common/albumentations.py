"""Builds Albumentations transforms from configs, and works around what the library does silently.

- Unknown arguments raise; Albumentations only warns about them.
- All transforms of a pipeline share one random stream, which is new for every sample. Albumentations' own
  `set_random_seed` would start each transform from the same seed, so that two flips of probability 1/2 would always
  happen together.
- Pixels beyond an image's border get the label that the caller names. Albumentations labels them 0, which is a class.
- Label maps are resized by INTER_NEAREST_EXACT. Albumentations uses OpenCV's INTER_NEAREST, which shifts them by up to
  half a pixel; see `resize_labels`.
- The library does not look for updates over the network when it is imported.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from ....names import unknown_name

# OpenCV's warps do not support INTER_NEAREST_EXACT, and do not need it.
RESIZING = frozenset(
    {
        "CropAndPad",
        "LongestMaxSize",
        "RandomResizedCrop",
        "RandomScale",
        "RandomSizedBBoxSafeCrop",
        "RandomSizedCrop",
        "Resize",
        "SmallestMaxSize",
    }
)
"""Transforms that resize label maps by OpenCV's `resize`."""


@functools.cache
def library() -> ModuleType:
    """Imports Albumentations without its update check over the network."""
    given = os.environ.get("NO_ALBUMENTATIONS_UPDATE")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations
    finally:
        if given is None:
            del os.environ["NO_ALBUMENTATIONS_UPDATE"]
        else:
            os.environ["NO_ALBUMENTATIONS_UPDATE"] = given
    return albumentations


@functools.cache
def transform_types() -> dict[str, type]:
    """Returns the library's transforms and compositions by class name."""
    module = library()
    bases = (module.BasicTransform, module.BaseCompose)
    found = {name: getattr(module, name) for name in dir(module)}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, bases) and "p" in inspect.signature(kind).parameters
    }


def build_transforms(configs: Sequence[Mapping[str, Any]], fill_mask: int | None = None) -> list[Any]:
    """Builds Albumentations transforms.

    Args:
        configs: One dict per transform with `type`, an Albumentations class ("HorizontalFlip", "OneOf"), and its
            arguments. The `transforms` of a composition have the same form.
        fill_mask: Label of pixels beyond an image's border, for transforms whose own default is 0 and whose config
            does not set it.

    Raises:
        ValueError: If a type or an argument does not exist, or an argument's value is not allowed.
    """
    return [_build(config, fill_mask) for config in configs]


def _build(config: Mapping[str, Any], fill_mask: int | None) -> Any:
    if not isinstance(config, Mapping) or "type" not in config:
        raise ValueError(
            f"An Albumentations transform must be a dict with 'type', such as 'HorizontalFlip', got {config!r}."
        )
    arguments = dict(config)
    name = arguments.pop("type")
    if name not in transform_types():
        raise ValueError(unknown_name("Albumentations transform", name, transform_types()))
    parameters = inspect.signature(transform_types()[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(unknown_name(f"argument of Albumentations' {name}", argument, parameters))
    if "transforms" in parameters and "transforms" in arguments:
        arguments["transforms"] = build_transforms(arguments["transforms"], fill_mask)
    if fill_mask is not None and "fill_mask" in parameters and parameters["fill_mask"].default == 0:
        arguments.setdefault("fill_mask", fill_mask)
    if name in RESIZING:
        arguments.setdefault("mask_interpolation", cv2.INTER_NEAREST_EXACT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return transform_types()[name](**arguments)
    except (ValueError, TypeError, Warning) as error:
        raise ValueError(f"Albumentations' {name} cannot be built from {dict(config)}: {error}") from error


def reseed(pipeline: Any) -> None:
    """Seeds all transforms of an Albumentations composition with one new stream, drawn from Python's generator."""
    seed = random.getrandbits(63)
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
