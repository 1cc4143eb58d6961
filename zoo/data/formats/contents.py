"""The content of a user's data set, in the same form whatever its format: what its splits hold and where it is."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..common.image_files import ImageFinder
from .splits import hold_out


@dataclass
class Content:
    """What all contents have.

    Attributes:
        root: Folder of the data set.
        classes: Class names by label.
        splits: By split ("train", "val", "test"), its samples.
        left_out: Number of files that are not read, by suffix ("" for none).
    """

    kind: ClassVar[Literal["classification", "detection", "segmentation"]]

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, Any]
    left_out: collections.Counter[str] = field(default_factory=collections.Counter, kw_only=True)

    def count(self, split: str) -> int:
        """Returns the number of images of a split."""
        return len(self.splits[split])

    def image_paths(self, split: str) -> list[Path]:
        """Lists the paths of the images of a split."""
        raise NotImplementedError

    def copy_split(self, source: str, target: str) -> None:
        """Uses a split under another name as well."""
        for by_split in vars(self).values():
            if isinstance(by_split, dict) and source in by_split:
                by_split[target] = by_split[source]

    def hold_out(self, fraction: float, seed: int) -> None:
        """Moves a share of the training split to a new validation split; see `splits.hold_out`."""
        raise NotImplementedError


@dataclass
class LabeledImages(Content):
    """Images with one label each. The samples of a split are pairs of a path, relative to `root`, and a label.

    Attributes:
        folders: By split, its folder in `root`, if the images are in one folder per class there.
    """

    kind = "classification"

    splits: dict[str, list[tuple[str, int]]]
    folders: dict[str, str] = field(default_factory=dict)

    def image_paths(self, split: str) -> list[Path]:
        """Lists the paths of the images of a split."""
        return [self.root / path for path, _ in self.splits[split]]

    def hold_out(self, fraction: float, seed: int) -> None:
        """Holds out the same share of each class."""
        samples = self.splits["train"]
        self.splits["train"], self.splits["val"] = hold_out(samples, [label for _, label in samples], fraction, seed)
        self.folders.clear()  # a folder holds both parts now


@dataclass
class AnnotatedImages(Content):
    """Images with objects. The samples of a split are the content of an annotation file in COCO's format.

    Attributes:
        folders: By split, the folder that `file_name` is relative to, relative to `root`.
        has_masks: Whether the objects have polygons or masks.
        files: By split, the path of the annotation file, if the data set is in COCO's format already.
    """

    kind = "detection"

    splits: dict[str, dict[str, Any]]
    folders: dict[str, str]
    has_masks: bool
    files: dict[str, Path] = field(default_factory=dict)

    def count(self, split: str) -> int:
        """Returns the number of images of a split."""
        return len(self.splits[split]["images"])

    def image_paths(self, split: str) -> list[Path]:
        """Lists the paths of the images of a split."""
        folder = self.root / self.folders[split]
        return [folder / image["file_name"] for image in self.splits[split]["images"]]

    def count_masks(self) -> tuple[int, int]:
        """Returns how many training objects, apart from crowds, have a polygon or mask, and how many there are."""
        objects = [one for one in self.splits["train"]["annotations"] if not one.get("iscrowd")]
        return sum(bool(one.get("segmentation")) for one in objects), len(objects)

    def hold_out(self, fraction: float, seed: int) -> None:
        """Holds out the same share of the images of each class. An image counts for the rarest of its classes."""
        content = self.splits["train"]
        of_image: dict[Any, set[int]] = collections.defaultdict(set)
        for annotation in content["annotations"]:
            of_image[annotation["image_id"]].add(annotation["category_id"])
        frequency = collections.Counter(category for categories in of_image.values() for category in categories)
        groups = [
            min(of_image[image["id"]], key=lambda category: (frequency[category], category), default=-1)
            for image in content["images"]
        ]
        self.files.clear()
        self.folders["val"] = self.folders["train"]
        for split, images in zip(("train", "val"), hold_out(content["images"], groups, fraction, seed), strict=True):
            chosen = {image["id"] for image in images}
            annotations = [one for one in content["annotations"] if one["image_id"] in chosen]
            self.splits[split] = {**content, "images": images, "annotations": annotations}


@dataclass
class LabelMaps(Content):
    """Images with a label image each. The samples of a split are paths relative to `images`, without suffix.

    Attributes:
        images: By split, the folder of the images, relative to `root`.
        labels: By split, the folder of the label images, relative to `root`.
        arguments: Further arguments of `SegmentationFolders`, such as `palette` and `label_values`.
    """

    kind = "segmentation"

    splits: dict[str, list[str]]
    images: dict[str, str]
    labels: dict[str, str]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def image_paths(self, split: str) -> list[Path]:
        """Lists the paths of the images of a split."""
        folder = self.root / self.images[split]
        files = {Path(path).relative_to(folder).with_suffix("").as_posix(): path for path in ImageFinder().find(folder)}
        return [Path(files[name]) for name in self.splits[split]]

    def hold_out(self, fraction: float, seed: int) -> None:
        """Holds out a share of the images; classes are not known without reading the label images."""
        samples: Sequence[str] = self.splits["train"]
        self.splits["train"], self.splits["val"] = hold_out(samples, [0] * len(samples), fraction, seed)
        self.images["val"], self.labels["val"] = self.images["train"], self.labels["train"]
