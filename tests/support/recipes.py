"""The shipped recipes of detection and segmentation, and a representative subset."""

from __future__ import annotations

import re
from typing import NamedTuple

from attnzoo.zoo.config import list_configs
from support.slow import slow_except

HEADS = ("cascade-mask-rcnn", "mask-rcnn", "retinanet", "semantic-fpn", "upernet")
SMALLEST = ("mini", "tiny", "b0", "small")
"""Size names of the smallest published models of the families, from small to large."""


class Recipe(NamedTuple):
    """A recipe of detection or segmentation, parsed from its name.

    Attributes:
        name: Name for `load_config`.
        family: Folder of the recipe.
        model: Entry point of the backbone, without a tag.
        head: One of `HEADS`.
        schedule: "1x", "3x", "40k", "80k" or "160k".
        data: "coco", "ade20k", "ade20k-640" (larger crops) or "ade20k-in22k" (pretrained on ImageNet-22K).
    """

    name: str
    family: str
    model: str
    head: str
    schedule: str
    data: str

    @property
    def is_detector(self) -> bool:
        """Whether the model is a detector."""
        return self.data == "coco"


def dense_recipes() -> list[Recipe]:
    """Lists the published recipes of detection and segmentation."""
    pattern = re.compile(rf"(\w+)/(\w+)_({'|'.join(HEADS)})_(1x|3x|\d+k)_(coco|ade20k\S*)")
    matches = [(name, pattern.fullmatch(name)) for name in list_configs()]
    return [Recipe(name, *match.groups()) for name, match in matches if match is not None]


def representatives() -> set[str]:
    """Returns one recipe per head and schedule, and one per family, those of the smallest models."""
    chosen: dict[tuple[str, ...], str] = {}
    sizes = {size: index for index, size in enumerate(SMALLEST)}
    by_size = sorted(dense_recipes(), key=lambda one: sizes.get(one.model.rpartition("_")[2], len(SMALLEST)))
    for one in by_size:
        chosen.setdefault((one.head, one.schedule), one.name)
        chosen.setdefault((one.family,), one.name)
    return set(chosen.values())


def most_of_them_slow(names: list[str]) -> list:
    """Returns names for `parametrize`, marked slow except for a few per family.

    These are the representatives of the dense tasks, and the first two recipes of image classification per folder.
    """
    dense = {one.name for one in dense_recipes()}
    by_folder: dict[str, list[str]] = {}
    for name in sorted(set(names) - dense):
        by_folder.setdefault(name.partition("/")[0], []).append(name)
    quick = representatives().union(*(recipes[:2] for recipes in by_folder.values()))
    return slow_except(names, quick)
