"""Reads class maps, which assign a label to each class name."""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from timm.data.imagenet_info import ImageNetInfo

from .text_files import read_json, read_lines

MAX_CLASSES = 1_000_000
"""Labels are less than this, so that a wrong number is not taken for a label: names are listed up to the highest."""


def load_class_map(class_map: str | os.PathLike[str] | Mapping[str, int] | Sequence[str], root: str) -> dict[str, int]:
    """Reads the label of each class name.

    Args:
        class_map: One of
            - a dict from name to label, or a list of names in the order of their labels;
            - "imagenet-1k", "imagenet-22k" or another subset of ImageNet that timm knows, for its WordNet ids;
            - a file, absolute or relative to `root`: .txt with one name per line, or .json with a dict or a list.
        root: Folder of the data set.

    Raises:
        ValueError: If the file or subset does not exist, or a name appears twice.
    """
    if isinstance(class_map, (str, os.PathLike)):
        given = os.fspath(class_map)
        if given.startswith("imagenet") and not Path(given).suffix:
            try:
                info = ImageNetInfo(given)
            except (AssertionError, ValueError, KeyError) as error:
                raise ValueError(
                    f"timm has no class names for {given!r}; 'imagenet-1k' has the usual 1000 classes."
                ) from error
            return {str(name): label for label, name in enumerate(info.label_names())}
        candidates = [Path(given), Path(root) / given]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise ValueError(f"The class map {given!r} does not exist, neither as given nor in {root}.")
        if path.suffix == ".json":
            class_map = read_json(path)
        elif path.suffix == ".txt":
            class_map = [line for _, line in read_lines(path)]
        else:
            raise ValueError(f"The class map {path} must be a .txt or .json file.")
        given = str(path)
    else:
        given = "the class map"
    return _checked(class_map, given)


def _checked(class_map: Any, given: str) -> dict[str, int]:
    """Returns the labels by name of a dict or list.

    Args:
        class_map: A dict from name to label, or a list of names.
        given: The file or "the class map", for messages.

    Raises:
        ValueError: If it is something else, or a name appears twice.
    """
    start = given[0].upper() + given[1:] if given == "the class map" else given
    if isinstance(class_map, str) or not isinstance(class_map, Mapping | Sequence):
        raise ValueError(f"{start} must be a dict or a list of names, got {type(class_map).__name__}.")
    wrong = [name for name in class_map if not isinstance(name, str | int)]
    if wrong:
        raise ValueError(f"{start} must have names as strings, got {str(wrong[0])[:80]!r}.")
    if not isinstance(class_map, Mapping):
        twice = [name for name, count in collections.Counter(class_map).items() if count > 1]
        if twice:
            raise ValueError(f"{start} names {twice[0]!r} more than once.")
        class_map = {name: label for label, name in enumerate(class_map)}
    if not class_map:
        raise ValueError(f"{start} is empty.")
    for name, label in class_map.items():
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < MAX_CLASSES:
            raise ValueError(
                f"The labels of {given} must be non-negative integers below {MAX_CLASSES}, got {str(label)[:80]} for "
                f"{name!r}."
            )
    return {str(name): label for name, label in class_map.items()}


def class_names(class_to_idx: Mapping[str, int]) -> tuple[str, ...]:
    """Returns names by label: a label without a name gets its number, several names of one label are joined by "/"."""
    names: dict[int, list[str]] = {}
    for name, label in class_to_idx.items():
        names.setdefault(label, []).append(name)
    return tuple("/".join(names.get(label, [str(label)])) for label in range(max(names) + 1))
