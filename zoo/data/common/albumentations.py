"""Albumentations' transforms from a config, guarded against what that library does in silence.

- Unknown arguments, which it only warns of, raise.
- Randomness is given anew for every sample. Its own `set_random_seed` would start every transform of a pipeline from
  one seed, so that two flips of probability 1/2 always happen together; here all share one stream.
- What a transform shows beyond an image's border, which it labels 0, a class, gets the label that the caller names.
- Where it resizes, masks would be read half a pixel beside the image, by OpenCV's INTER_NEAREST; see `resize_labels`.
- It looks for updates over the network when it is imported; not here.
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

# Those that call OpenCV's resize; its warps know no INTER_NEAREST_EXACT, and need none.
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


@functools.cache
def library() -> ModuleType:
    """Imports albumentations, without its look-up over the network."""
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
    """Finds the library's transforms and compositions of them, by name."""
    module = library()
    bases = (module.BasicTransform, module.BaseCompose)
    found = {name: getattr(module, name) for name in dir(module)}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, bases) and "p" in inspect.signature(kind).parameters
    }


def build_transforms(configs: Sequence[Mapping[str, Any]], fill_mask: int | None = None) -> list[Any]:
    """Builds albumentations' transforms.

    Args:
        configs: a dict each, with `type`, a class of albumentations ("HorizontalFlip", "OneOf"), and its arguments;
            `transforms` of a composition is such a list in turn.
        fill_mask: the label of what lies beyond an image's border, where a transform's own default is 0 and its config
            does not say.

    Returns:
        The transforms.

    Raises:
        ValueError: a type or an argument has no such name, or an argument has no such value.
    """
    return [_build(config, fill_mask) for config in configs]


def _build(config: Mapping[str, Any], fill_mask: int | None) -> Any:
    if not isinstance(config, Mapping) or "type" not in config:
        raise ValueError(
            f"An albumentations transform is a dict with 'type', such as 'HorizontalFlip', not {config!r}."
        )
    arguments = dict(config)
    name = arguments.pop("type")
    if name not in transform_types():
        raise ValueError(unknown_name("transform of albumentations", name, transform_types()))
    parameters = inspect.signature(transform_types()[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(unknown_name(f"argument of albumentations' {name}", argument, parameters))
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
        raise ValueError(f"albumentations' {name} cannot be built from {dict(config)}: {error}") from error


def reseed(pipeline: Any) -> None:
    """Gives a pipeline one new stream of randomness, drawn from Python's global generator.

    Args:
        pipeline: a composition of albumentations.
    """
    seed = random.getrandbits(63)
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
