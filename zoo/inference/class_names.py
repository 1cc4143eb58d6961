"""What a model's classes are called, found without reading a data set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from timm.data.imagenet_info import ImageNetInfo

from ..data.common.class_maps import class_names, load_class_map
from ..data.detection.coco_classes import CLASSES as COCO_CLASSES
from ..plots.colors import Color
from ..work_dir import read_class_names

_COCO_FILE = re.compile(r"instances_(train|val)20(14|17)(\.json)?")
_IMAGENETS = {1000: "imagenet-1k", 21841: "imagenet-22k", 21843: "imagenet-21k", 21842: "imagenet-22k-ms"}


def given_classes(given: Sequence[str] | Mapping[str, int] | str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the names that a user gives.

    Args:
        given: names in order, labels by name, a .txt or .json file, or a subset of ImageNet ("imagenet-1k").

    Raises:
        ValueError: there is no such file or subset.
    """
    return spoken(class_names(load_class_map(given, "")))


def published_classes(num_classes: int, trained_on_imagenet: bool) -> tuple[str, ...]:
    """Names the classes of published weights, where ImageNet is what they were trained on; empty where it is not."""
    if not trained_on_imagenet or num_classes not in _IMAGENETS:
        return ()
    return spoken(tuple(ImageNetInfo(_IMAGENETS[num_classes]).label_names()))


def work_dir_classes(folder: Path) -> tuple[str, ...]:
    """Reads the names that a training left in its work dir; empty where there are none.

    Raises:
        ValueError: the file holds something else.
    """
    return spoken(read_class_names(folder))


def config_classes(dataset: Mapping[str, Any], num_classes: int) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Finds the classes that a data set's config names, without opening the data set.

    Args:
        dataset: the config.
        num_classes: of the model.

    Returns:
        The names, empty where the config does not tell, or tells of another number; and colours, where the set has its
        own.
    """
    kind = str(dataset.get("type", "")).removeprefix("attnzoo.")
    root = str(dataset.get("root") or "")
    names: tuple[str, ...] = ()
    palette = dataset.get("palette")
    given = dataset.get("class_map") or dataset.get("classes") or (dataset.get("metainfo") or {}).get("classes")
    if given:
        try:
            names = class_names(load_class_map(given, root))
        except ValueError:  # a file that only the training machine has
            names = ()
    elif kind == "ADE20K":
        from ..data.segmentation import ade20k

        names, palette = ade20k.CLASSES, ade20k.PALETTE
    elif kind == "PascalVOC":
        from ..data.segmentation.folders import VOC_CLASSES
        from ..data.segmentation.label_maps import voc_palette

        names, palette = VOC_CLASSES, voc_palette(len(VOC_CLASSES))
    elif kind == "CocoDetection":
        file = Path(dataset.get("annotations") or f"instances_{dataset.get('split')}")
        names = COCO_CLASSES if _COCO_FILE.fullmatch(file.name) else ()
    if len(names) != num_classes:
        return (), None
    colours = tuple((int(red), int(green), int(blue)) for red, green, blue in palette) if palette else None
    return spoken(names), colours


def spoken(names: tuple[str, ...]) -> tuple[str, ...]:
    """Turns ImageNet's WordNet ids into words; other names stay.

    Args:
        names: by label.

    Returns:
        "great white shark" for "n01484850". Where two classes have the same first word, all words of each.
    """
    if not names or not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return names
    info = ImageNetInfo("imagenet-22k")
    described = [_described(info, name) for name in names]
    first = [text.split(",")[0] for text in described]
    often = Counter(first)
    return tuple(short if often[short] == 1 else text for short, text in zip(first, described, strict=True))


def _described(info: ImageNetInfo, name: str) -> str:
    try:
        return info.label_name_to_description(name)
    except KeyError:
        return name
