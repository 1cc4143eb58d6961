"""COCO's panoptic annotations turned into semantic label maps."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ....names import unknown_name
from ...registry import DATASETS
from ..common.decoding import reading_image
from ..common.paths import missing_path
from ..segmentation.dataset import Pair, SegmentationDataset, SegmentationTransform

THINGS = ("separate", "merged", "ignored")


@DATASETS.register_module()
class CocoPanopticSemantic(SegmentationDataset):
    """A set in COCO's panoptic format, as semantic labels: each segment's pixels get its category's label.

    Labels are numbered from 0 in ascending order of the categories' ids, which may be any, and named as in the
    annotation file. Pixels of no segment are 255; crowds count as their category.

    Args:
        ann_file: the JSON file with `images`, `annotations` and `categories`.
        images: the images' folder.
        panoptic: the folder of the PNGs, whose colours are the segments' ids (R + 256 G + 65536 B); None for the
            folder that is called as `ann_file` is, without suffix.
        things: what becomes of countable categories (`isthing`): "separate" gives each its label; "merged" makes one
            class "things" of them, label 0, before the others (as Panoptic FPN does); "ignored" gives them 255.
        transform: see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Attributes:
        category_ids: by label, the ids of the categories that it stands for.

    Raises:
        ValueError: the annotation file is none, names images or categories that it does not have, or files are missing;
            also see `SegmentationDataset`.
    """

    def __init__(
        self,
        ann_file: str,
        images: str,
        panoptic: str | None = None,
        things: Literal["separate", "merged", "ignored"] = "separate",
        transform: dict[str, Any] | SegmentationTransform | None = None,
        **options: Any,
    ) -> None:
        if things not in THINGS:
            raise ValueError(unknown_name("way with things", things, THINGS))
        content = _read_json(ann_file)
        self.ann_file = ann_file
        classes, self.category_ids = _classes(ann_file, content["categories"], things)
        label_of = {category: label for label, group in enumerate(self.category_ids) for category in group}
        known = {category["id"] for category in content["categories"]}
        folder = str(Path(ann_file).with_suffix("")) if panoptic is None else panoptic
        image_files, label_files = _names_in(images, "images"), _names_in(folder, "panoptic")
        by_id = {image["id"]: image for image in content["images"]}
        pairs: list[Pair] = []
        self._segments: list[dict[int, int]] = []
        for annotation in sorted(content["annotations"], key=lambda one: str(one["image_id"]).zfill(20)):
            place = f"{ann_file}, the annotation of image {annotation['image_id']}:"
            image = by_id.get(annotation["image_id"])
            if image is None:
                raise ValueError(f"{place} there is no image of that id in `images`.")
            _require(image["file_name"], image_files, images, place, "images")
            _require(annotation["file_name"], label_files, folder, place, "panoptic")
            pairs.append(Pair(os.path.join(images, image["file_name"]), os.path.join(folder, annotation["file_name"])))
            segments: dict[int, int] = {}
            for segment in annotation["segments_info"]:
                if segment["category_id"] not in known:
                    raise ValueError(
                        f"{place} the segment {segment['id']} has the category {segment['category_id']}, which is not "
                        "in `categories`."
                    )
                segments[segment["id"]] = label_of.get(segment["category_id"], IGNORE_INDEX)
            self._segments.append(segments)
        palette = None
        colours = {category["id"]: category.get("color") for category in content["categories"]}
        if all(colours[group[0]] for group in self.category_ids):
            palette = [colours[group[0]] for group in self.category_ids]
        super().__init__(
            f"{ann_file}",
            pairs,
            classes,
            transform,
            palette,
            **options,
        )
        bare = len(by_id) - len({annotation["image_id"] for annotation in content["annotations"]})
        if bare:
            self.findings.append(f"{bare} images of {ann_file} have no annotation and are left out.")

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Looks for the annotation file and the folders of images and PNGs."""
        ann_file = arguments.get("ann_file")
        if ann_file and not Path(ann_file).is_file():
            yield missing_path("ann_file", ann_file)
            return
        for argument, default in (("images", None), ("panoptic", Path(ann_file).with_suffix("") if ann_file else None)):
            folder = arguments.get(argument) or default
            if folder and not Path(folder).is_dir():
                yield missing_path(argument, folder)

    def read_labels(self, index: int) -> np.ndarray | None:
        """Reads a sample's labels; see `SegmentationDataset.read_labels`.

        Raises:
            BrokenImageError: the PNG cannot be read.
            ValueError: it has no colours, or a segment that the annotation file does not list.
        """
        path = str(self.pairs[index].labels)
        ids = read_segment_ids(path)
        segments = self._segments[index]
        # Segments in the order of their ids: a pixel's place among them is its row in the table of labels.
        listed = np.array([0, *sorted(segments)], np.int64)
        table = np.array([IGNORE_INDEX, *(segments[one] for one in sorted(segments))], np.uint8)
        places = np.searchsorted(listed, ids).clip(max=len(listed) - 1)
        strange = listed[places] != ids
        if strange.any():
            missing = np.unique(ids[strange])
            raise ValueError(
                f"{path} has the segment{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:5]))}, which "
                f"{self.ann_file} does not list for this image: do the folder and the annotation file belong together?"
            )
        return table[places]


def read_segment_ids(path: str) -> np.ndarray:
    """Reads which segment each pixel of a panoptic PNG belongs to.

    Args:
        path: of a PNG with 8 bits of red, green and blue.

    Returns:
        (height, width) int64: R + 256 G + 65536 B; 0 for none.

    Raises:
        BrokenImageError: the file is truncated, damaged or no image.
        ValueError: it has no three colours.
    """
    with reading_image(path), Image.open(path) as image:
        image.load()
        mode, colours = image.mode, np.asarray(image)
    if mode not in ("RGB", "RGBA"):
        raise ValueError(
            f"The panoptic image {path} has the mode {mode}: it must have red, green and blue, which make the "
            "segment's id. A PNG of class numbers is for SegmentationFolders."
        )
    parts = colours[..., :3].astype(np.int64)
    return parts[..., 0] + 256 * parts[..., 1] + 65536 * parts[..., 2]


def _classes(
    ann_file: str, categories: list[dict[str, Any]], things: str
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Names by label, and the ids of the categories that each label stands for."""
    ordered = sorted(categories, key=lambda category: category["id"])
    ids = [category["id"] for category in ordered]
    twice = next((first for first, second in itertools.pairwise(ids) if first == second), None)
    if twice is not None:
        raise ValueError(f"{ann_file} has two categories of the id {twice}.")
    if things == "separate":
        return tuple(category["name"] for category in ordered), tuple((one,) for one in ids)
    lacking = next((category for category in ordered if "isthing" not in category), None)
    if lacking is not None:
        raise ValueError(
            f"{ann_file}: the category {lacking['name']!r} has no `isthing`, which things={things!r} needs: add it, or "
            "take things='separate'."
        )
    stuff = [category for category in ordered if not category["isthing"]]
    counted = tuple(category["id"] for category in ordered if category["isthing"])
    names = tuple(category["name"] for category in stuff)
    groups = tuple((category["id"],) for category in stuff)
    return (("things", *names), (counted, *groups)) if things == "merged" and counted else (names, groups)


def _read_json(ann_file: str) -> Mapping[str, Any]:
    try:
        content = json.loads(Path(ann_file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The annotation file {ann_file} cannot be read: {error}") from error
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise ValueError(
            f"{ann_file} has no {', '.join(map(repr, missing))}: it is no annotation file of COCO's format."
        )
    if content["annotations"] and "segments_info" not in content["annotations"][0]:
        raise ValueError(
            f"{ann_file} has no `segments_info`: it is no panoptic annotation file (those are called panoptic_*.json)."
        )
    return content


def _names_in(folder: str, argument: str) -> set[str]:
    if not os.path.isdir(folder):
        raise ValueError(f"There is no folder {folder}: correct {argument}.")
    return {entry.name for entry in os.scandir(folder)}


def _require(name: str, present: set[str], folder: str, place: str, argument: str) -> None:
    """Raises where a folder lacks a file; names with folders in them are looked up by themselves."""
    if name not in present and not ("/" in name and os.path.isfile(os.path.join(folder, name))):
        raise ValueError(f"{place} {folder} has no file {name}: complete the folder, or correct {argument}.")
