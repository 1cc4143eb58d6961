"""Semantic segmentation from COCO's panoptic annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ....names import unknown_name
from ...registry import DATASETS
from ..common.decoding import open_image, read_file, reading_image
from ..common.paths import missing_path
from ..formats.panoptic import read_panoptic
from ..segmentation.dataset import Pair, SegmentationDataset, SegmentationTransform

THINGS = ("separate", "merged", "ignored")


@DATASETS.register_module()
class CocoPanopticSemantic(SegmentationDataset):
    """A data set in COCO's panoptic format as semantic labels: the pixels of a segment get the label of its category.

    Labels are numbered from 0 by ascending category id, whatever the ids are, and named as in the annotation file.
    Pixels without a segment are ignored (255); crowds count as their category.

    Args:
        ann_file: JSON file with `images`, `annotations` and `categories`.
        images: Folder of the images.
        panoptic: Folder of the PNGs, whose colors are the ids of the segments (R + 256 G + 65536 B). None is the path
            of `ann_file` without suffix.
        things: Treatment of countable categories (`isthing`): "separate" keeps a label for each; "merged" joins them in
            one class "things", which gets label 0 (as in Panoptic FPN); "ignored" ignores their pixels.
        transform: Config of a registered transform, or a callable; see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Attributes:
        category_ids: By label, the ids of its categories.

    Raises:
        ValueError: If the annotation file is missing or wrong (see `read_panoptic`), or files are missing; or see
            `SegmentationDataset`.
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
            raise ValueError(unknown_name("value of things", things, THINGS))
        content = read_panoptic(ann_file)
        self.ann_file = ann_file
        classes, self.category_ids = _classes(ann_file, content["categories"], things)
        label_of = {category: label for label, group in enumerate(self.category_ids) for category in group}
        folder = str(Path(ann_file).with_suffix("")) if panoptic is None else panoptic
        image_files, label_files = _names_in(images, "images"), _names_in(folder, "panoptic")
        by_id = {image["id"]: image for image in content["images"]}
        pairs: list[Pair] = []
        self._segments: list[dict[int, int]] = []
        for annotation in sorted(content["annotations"], key=lambda entry: entry["image_id"]):
            where = f"{ann_file}, annotation of image {annotation['image_id']}:"
            image = by_id[annotation["image_id"]]
            _require(image["file_name"], image_files, images, where, "images")
            _require(annotation["file_name"], label_files, folder, where, "panoptic")
            pairs.append(Pair(os.path.join(images, image["file_name"]), os.path.join(folder, annotation["file_name"])))
            segments = annotation["segments_info"]
            self._segments.append(
                {segment["id"]: label_of.get(segment["category_id"], IGNORE_INDEX) for segment in segments}
            )
        palette = None
        colors = {category["id"]: category.get("color") for category in content["categories"]}
        if all(colors[group[0]] for group in self.category_ids):
            palette = [colors[group[0]] for group in self.category_ids]
        super().__init__(
            f"{ann_file}",
            pairs,
            classes,
            transform,
            palette,
            **options,
        )
        unannotated = len(by_id) - len({annotation["image_id"] for annotation in content["annotations"]})
        if unannotated:
            self.findings.append(f"{unannotated} images in {ann_file} have no annotation and are skipped.")

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Checks that the annotation file and the folders of images and PNGs exist."""
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
            BrokenImageError: If the PNG cannot be read.
            ValueError: If it is not an RGB image, or has a segment that the annotation file does not list.
        """
        path = str(self.pairs[index].labels)
        ids = read_segment_ids(path)
        segments = self._segments[index]
        # Segment ids are large and sparse: look up their positions in the sorted list, and labels by position.
        listed = np.array([0, *sorted(segments)], np.int64)
        table = np.array([IGNORE_INDEX, *(segments[segment_id] for segment_id in sorted(segments))], np.uint8)
        positions = np.searchsorted(listed, ids).clip(max=len(listed) - 1)
        unknown = listed[positions] != ids
        if unknown.any():
            missing = np.unique(ids[unknown])
            raise ValueError(
                f"{path} has the segment{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:5]))}, which "
                f"{self.ann_file} does not list for this image: do the folder and the annotation file belong together?"
            )
        return table[positions]


def read_segment_ids(path: str) -> np.ndarray:
    """Reads the segment id of each pixel of a panoptic PNG.

    Args:
        path: Path of an RGB PNG with 8 bits per channel.

    Returns:
        (height, width) int64: R + 256 G + 65536 B; 0 without a segment.

    Raises:
        BrokenImageError: If the file is truncated, damaged or not an image.
        ValueError: If it is not an RGB image.
    """
    file = read_file(path)
    with reading_image(path), open_image(file) as image:
        image.load()
        mode, colors = image.mode, np.asarray(image)
    if mode not in ("RGB", "RGBA"):
        raise ValueError(
            f"The panoptic image {path} has the mode {mode}: it must be RGB, because colors encode segment ids. Use "
            "SegmentationFolders for PNGs of labels."
        )
    channels = colors[..., :3].astype(np.int64)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def _classes(
    ann_file: str, categories: list[dict[str, Any]], things: str
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Returns names by label, and the category ids of each label."""
    ordered = sorted(categories, key=lambda category: category["id"])
    ids = [category["id"] for category in ordered]
    if things == "separate":
        return tuple(str(category["name"]) for category in ordered), tuple((category_id,) for category_id in ids)
    lacking = next((category for category in ordered if "isthing" not in category), None)
    if lacking is not None:
        raise ValueError(
            f"{ann_file}: the category {lacking['name']!r} has no `isthing`, which things={things!r} needs: add it, or "
            "set things='separate'."
        )
    stuff = [category for category in ordered if not category["isthing"]]
    counted = tuple(category["id"] for category in ordered if category["isthing"])
    names = tuple(str(category["name"]) for category in stuff)
    groups = tuple((category["id"],) for category in stuff)
    return (("things", *names), (counted, *groups)) if things == "merged" and counted else (names, groups)


def _names_in(folder: str, argument: str) -> set[str]:
    if not os.path.isdir(folder):
        raise ValueError(f"There is no folder {folder}: correct {argument}.")
    return {entry.name for entry in os.scandir(folder)}


def _require(name: str, present: set[str], folder: str, where: str, argument: str) -> None:
    """Raises if a folder lacks a file; names with subfolders are looked up individually."""
    if name not in present and not ("/" in name and os.path.isfile(os.path.join(folder, name))):
        raise ValueError(f"{where} {folder} has no file {name}: add it, or correct {argument}.")
