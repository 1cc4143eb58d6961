"""Finds the names of a model's classes without reading a data set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from timm.data.imagenet_info import ImageNetInfo

from ..data.common.class_maps import class_names, load_class_map
from ..data.detection.coco_classes import CLASSES as COCO_CLASSES  # noqa: F401 - the previous home of this name
from ..plots.colors import Color
from ..registry import DATASETS
from ..work_dir import read_class_names

_IMAGENET_SUBSETS = {1000: "imagenet-1k", 21841: "imagenet-22k", 21843: "imagenet-21k", 21842: "imagenet-22k-ms"}
"""timm's names of ImageNet's subsets by number of classes."""


def parse_class_names(given: Sequence[str] | Mapping[str, int] | str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the class names that a user passed.

    Args:
        given: Names in order, labels by name, a .txt or .json file, or a subset of ImageNet ("imagenet-1k").

    Raises:
        ValueError: There is no such file or subset.
    """
    return readable_names(class_names(load_class_map(given, "")))


def imagenet_class_names(num_classes: int) -> tuple[str, ...]:
    """Returns the class names of the subset of ImageNet with this number of classes; empty if there is none."""
    if num_classes not in _IMAGENET_SUBSETS:
        return ()
    return readable_names(tuple(ImageNetInfo(_IMAGENET_SUBSETS[num_classes]).label_names()))


def work_dir_class_names(folder: Path) -> tuple[str, ...]:
    """Reads the class names that training wrote to its work dir; empty if there are none.

    Raises:
        ValueError: The file does not contain a list of names.
    """
    return readable_names(read_class_names(folder))


def dataset_class_names(
    dataset: Mapping[str, Any], num_classes: int
) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Finds the classes of a data set from its config, without building it.

    Args:
        dataset: Config of the data set.
        num_classes: Number of classes of the model.

    Returns:
        The names, empty if they are unknown or their number differs from the model's; and the colors, if the data set
        has its own.
    """
    arguments = {name: value for name, value in dataset.items() if name != "type"}
    try:
        names, palette = _chosen_in_metainfo(arguments), None
        data_set = _dataset_type(dataset)
        if hasattr(data_set, "class_names"):
            names, palette = data_set.class_names(**arguments) or names, data_set.class_palette(**arguments)
    except (ValueError, OSError):  # a file or folder that only the training machine has
        return (), None
    if len(names) != num_classes:
        return (), None
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in palette) if palette else None
    return readable_names(tuple(names)), colors


def model_class_names(
    dataset: Mapping[str, Any],
    num_classes: int,
    carried: Sequence[str] | None = None,
    folders: Sequence[str | os.PathLike[str]] = (),
) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Finds the class names of a model that was built from a config.

    Those that the data set's config chooses take precedence, then those that the checkpoint carries, those that
    training wrote to its work dir, and those that the data set has now: the folder of the data may have changed since
    training.

    Args:
        dataset: Config of the data set.
        num_classes: Number of classes of the model.
        carried: Names that the checkpoint carries.
        folders: Folders that may be the work dir.

    Returns:
        See `dataset_class_names`.

    Raises:
        ValueError: The file in a work dir does not contain a list of names.
    """
    names, palette = dataset_class_names(dataset, num_classes)
    if names and chooses_classes(dataset):
        return names, palette
    if carried and len(carried) == num_classes:
        return readable_names(tuple(carried)), palette
    for folder in folders:
        written = work_dir_class_names(Path(folder))
        if len(written) == num_classes:
            return written, palette
    return names, palette


def chooses_classes(dataset: Mapping[str, Any]) -> bool:
    """Reports whether a data set's config contains the classes, so that they do not depend on the data's folder."""
    argument = getattr(_dataset_type(dataset), "classes_argument", "classes")
    return bool(dataset.get(argument) or (dataset.get("metainfo") or {}).get("classes"))


def _dataset_type(dataset: Mapping[str, Any]) -> Any:
    kind = dataset.get("type")
    try:
        return DATASETS.get(kind) if isinstance(kind, str) else kind
    except ValueError:  # a type of another library: prediction does not build the data set
        return None


def _chosen_in_metainfo(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Reads the classes where mmengine's own data sets have them."""
    given = (arguments.get("metainfo") or {}).get("classes")
    return class_names(load_class_map(given, arguments.get("root") or "")) if given else ()


def readable_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Replaces ImageNet's WordNet ids with words; other names are returned unchanged.

    Args:
        names: Names by label.

    Returns:
        For "n01484850" "great white shark". If several classes have the same first word, all their synonyms.
    """
    if not names or not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return names
    info = ImageNetInfo("imagenet-22k")
    synonyms = [_synonyms(info, name) for name in names]
    first = [text.split(",")[0] for text in synonyms]
    counts = Counter(first)
    return tuple(short if counts[short] == 1 else text for short, text in zip(first, synonyms, strict=True))


def _synonyms(info: ImageNetInfo, name: str) -> str:
    try:
        return info.label_name_to_description(name)
    except KeyError:
        return name
