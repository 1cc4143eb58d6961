"""Reads class maps, which assign a label to each class name."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo


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
            class_map = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".txt":
            class_map = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            raise ValueError(f"The class map {path} must be a .txt or .json file.")
    if not isinstance(class_map, Mapping):
        if not isinstance(class_map, Sequence):
            raise ValueError(f"A class map must be a dict or a list of names, got {type(class_map).__name__}.")
        twice = [name for name, count in collections.Counter(class_map).items() if count > 1]
        if twice:
            raise ValueError(f"The class map names {twice[0]!r} more than once.")
        class_map = {name: label for label, name in enumerate(class_map)}
    labels = {str(name): label for name, label in class_map.items()}
    if not labels:
        raise ValueError("The class map is empty.")
    if not all(isinstance(label, int) and label >= 0 for label in labels.values()):
        raise ValueError("The labels of a class map must be non-negative integers.")
    return labels


def class_names(class_to_idx: Mapping[str, int]) -> tuple[str, ...]:
    """Returns names by label: a label without a name gets its number, several names of one label are joined by "/"."""
    names: dict[int, list[str]] = {}
    for name, label in class_to_idx.items():
        names.setdefault(label, []).append(name)
    return tuple("/".join(names.get(label, [str(label)])) for label in range(max(names) + 1))
