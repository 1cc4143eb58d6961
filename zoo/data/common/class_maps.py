"""Class maps: which label each class name has."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo


def load_class_map(class_map: str | os.PathLike[str] | Mapping[str, int] | Sequence[str], root: str) -> dict[str, int]:
    """Reads which label each class name has.

    Args:
        class_map: one of
            - a dict from name to label, or a list of names in order;
            - "imagenet-1k", "imagenet-22k" or another subset of ImageNet that timm knows: its WordNet ids, in order;
            - a file, also relative to `root`: .txt with a name a line, or .json with a dict or a list.
        root: the data set's.

    Raises:
        ValueError: there is no such file or subset, or names or labels appear twice.
    """
    if isinstance(class_map, (str, os.PathLike)):
        given = os.fspath(class_map)
        if given.startswith("imagenet") and not Path(given).suffix:
            try:
                info = ImageNetInfo(given)
            except (AssertionError, ValueError, KeyError) as error:
                raise ValueError(f"timm knows no classes of {given!r}; 'imagenet-1k' has the usual 1000.") from error
            return {str(name): label for label, name in enumerate(info.label_names())}
        candidates = [Path(given), Path(root) / given]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise ValueError(f"The class map {given!r} is no file, neither as given nor in {root}.")
        if path.suffix == ".json":
            class_map = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".txt":
            class_map = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            raise ValueError(f"The class map {path} must be a .txt or .json file.")
    if not isinstance(class_map, Mapping):
        if not isinstance(class_map, Sequence):
            raise ValueError(f"A class map is a dict or a list of names, not {type(class_map).__name__}.")
        twice = [name for name, count in collections.Counter(class_map).items() if count > 1]
        if twice:
            raise ValueError(f"The class map names {twice[0]!r} more than once.")
        class_map = {name: label for label, name in enumerate(class_map)}
    labels = {str(name): label for name, label in class_map.items()}
    if not labels:
        raise ValueError("The class map is empty.")
    if not all(isinstance(label, int) and label >= 0 for label in labels.values()):
        raise ValueError("A class map's labels are whole numbers from 0 on.")
    return labels


def class_names(class_to_idx: Mapping[str, int]) -> tuple[str, ...]:
    """Names by label; a label without a name is called after its number, several names are joined by a slash."""
    names: dict[int, list[str]] = {}
    for name, label in class_to_idx.items():
        names.setdefault(label, []).append(name)
    return tuple("/".join(names.get(label, [str(label)])) for label in range(max(names) + 1))
