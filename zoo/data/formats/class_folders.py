"""Class folders: one folder of images per class, with or without a folder per split above them."""

from __future__ import annotations

import collections
import os
from pathlib import Path

from timm.utils.misc import natural_key

from ..common.image_files import ImageFinder
from .base import DataFormat, register_format
from .contents import LabeledImages
from .splits import split_of


@register_format
class ClassFolders(DataFormat):
    """One folder of images per class, as torchvision's ImageFolder and timm read them."""

    name = "class folders"
    layout = "<class>/*.jpg, or train/<class>/*.jpg and val/<class>/*.jpg"

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether all folders are splits with folders of images, or are folders of images."""
        folders = _folders(root)
        splits = {name: split_of(name) for name in folders}
        if folders and all(splits.values()):
            classes = [root / name / inner for name in folders for inner in _folders(root / name)]
        else:
            classes = [root / name for name in folders]
        return bool(classes) and any(_has_image(folder) for folder in classes)

    @classmethod
    def read(cls, root: Path) -> LabeledImages:
        """Lists the images; classes are numbered in natural order of their names.

        Raises:
            ValueError: Two folders hold the same split, a split has a class that training has not, or there are images
                outside of the folders of the classes.
        """
        folders = _folders(root)
        splits: dict[str, str] = {}
        if all(split_of(name) for name in folders):
            for name in folders:
                split = split_of(name)
                assert split is not None
                if split in splits:
                    raise ValueError(f"{root} has two folders for the split {split!r}: {splits[split]} and {name}.")
                splits[split] = name
        finder = ImageFinder()
        found = {split: _images(root, name, finder) for split, name in (splits or {"": ""}).items()}
        first = found.get("train") or next(iter(found.values()))
        classes = sorted(first, key=natural_key)
        for split, images in found.items():
            unknown = sorted(set(images) - set(classes))
            if unknown:
                raise ValueError(
                    f"{root / splits[split]} has the classes {', '.join(unknown[:5])}, which {root / splits['train']} "
                    "does not have: rename or remove these folders."
                )
        labels = {name: label for label, name in enumerate(classes)}
        return LabeledImages(
            root=root,
            classes=tuple(classes),
            splits={
                split or "train": [
                    (path, labels[name]) for name in sorted(images, key=natural_key) for path in images[name]
                ]
                for split, images in found.items()
            },
            folders=splits,
            left_out=finder.left_out,
        )


def _folders(place: Path) -> list[str]:
    if not place.is_dir():
        return []
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _has_image(folder: Path) -> bool:
    return next(ImageFinder().find(folder), None) is not None


def _images(root: Path, split: str, finder: ImageFinder) -> dict[str, list[str]]:
    """Lists the images of each class in a split, relative to `root`; classes without images are left out."""
    place = root / split
    loose = [entry.name for entry in place.iterdir() if entry.is_file() and finder.matches(entry.name)]
    if loose:
        raise ValueError(
            f"{place} has {len(loose)} images, such as {sorted(loose)[0]}, outside of the folders of the classes. Move "
            "each into the folder of its class."
        )
    images: dict[str, list[str]] = collections.defaultdict(list)
    for name in _folders(place):
        for path in finder.find(place / name):
            images[name].append(os.path.relpath(path, root))
    return dict(images)
