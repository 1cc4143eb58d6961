"""Pairs of images and label images, for segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.decoding import reading_image
from ..common.image_files import ImageFinder
from ..common.text_files import read_json, read_lines
from .base import DataFormat, register_format
from .contents import LabelMaps
from .splits import split_of

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "annotations", "annotation", "segmentationclass", "gt")
_CLASS_FILES = ("classes.txt", "classes.json", "labels.txt")
_LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
IGNORED = 255
_SAMPLED = 300


@register_format
class LabelMapPairs(DataFormat):
    """A folder of images and a folder of label images of the same names, with or without folders per split."""

    name = "label images"
    layout = (
        "images/*.jpg and masks/*.png, or train/images and train/masks, or images/train and masks/train; classes.txt"
    )

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether there are folders of images and of label images."""
        return bool(_folders(root))

    @classmethod
    def read(cls, root: Path) -> LabelMaps:
        """Lists the pairs, and finds the classes: those of classes.txt, or the values in the label images.

        Raises:
            ValueError: Images have no label image, label images are in color, or there are more values than classes.
        """
        finder, splits = ImageFinder(), {}
        folders = _folders(root)
        for split, (images, labels) in folders.items():
            names = {_name(path, root / images) for path in finder.find(root / images)}
            labeled = {_name(path, root / labels) for path in ImageFinder(_LABEL_SUFFIXES).find(root / labels)}
            missing = sorted(names - labeled)
            if missing:
                raise ValueError(
                    f"{len(missing)} of {len(names)} images in {root / images} have no label image of the same name in "
                    f"{root / labels}, such as {missing[0]}."
                )
            splits[split] = sorted(names)
        values = _values(root, folders, splits)
        classes, arguments = _classes(root, values)
        return LabelMaps(
            root=root,
            classes=classes,
            splits=splits,
            images={split: images for split, (images, _) in folders.items()},
            labels={split: labels for split, (_, labels) in folders.items()},
            arguments=arguments,
            left_out=finder.left_out,
        )


def _folders(root: Path) -> dict[str, tuple[str, str]]:
    """Finds the folders of images and label images by split, relative to `root`."""
    if not root.is_dir():
        return {}
    pair = _pair(root)
    if pair is None:
        inner = {split: (place.name, _pair(place)) for place in _subfolders(root) if (split := split_of(place.name))}
        return {split: (f"{name}/{both[0]}", f"{name}/{both[1]}") for split, (name, both) in inner.items() if both}
    images, labels = pair
    splits = {split: place.name for place in _subfolders(root / images) if (split := split_of(place.name))}
    both = {split: name for split, name in splits.items() if (root / labels / name).is_dir()}
    return {split: (f"{images}/{name}", f"{labels}/{name}") for split, name in both.items()} or {"train": pair}


def _subfolders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir())


def _pair(place: Path) -> tuple[str, str] | None:
    """Returns the names of the folders of images and of label images in a folder; None if there are none."""
    by_name = {entry.name.lower(): entry for entry in _subfolders(place)}
    images = next((by_name[name] for name in IMAGE_FOLDERS if name in by_name), None)
    labels = next((by_name[name] for name in LABEL_FOLDERS if name in by_name), None)
    if images is None or labels is None or next(ImageFinder(_LABEL_SUFFIXES).find(labels), None) is None:
        return None
    return images.name, labels.name


def _name(path: str, folder: Path) -> str:
    return Path(path).relative_to(folder).with_suffix("").as_posix()


def _values(root: Path, folders: dict[str, tuple[str, str]], splits: dict[str, list[str]]) -> list[int]:
    """Returns the values in a sample of the label images, in ascending order."""
    found: set[int] = set()
    for split, (_, labels) in folders.items():
        files = {_name(path, root / labels): path for path in ImageFinder(_LABEL_SUFFIXES).find(root / labels)}
        names = splits[split]
        for name in names[:: max(1, len(names) // _SAMPLED)]:
            with reading_image(files[name]), Image.open(files[name]) as image:
                if image.mode not in ("1", "L", "P"):
                    raise ValueError(
                        f"{files[name]} has the mode {image.mode}: label images need one channel of class numbers. "
                        "Convert the colors to class numbers first."
                    )
                found.update(np.unique(np.asarray(image)).tolist())
    return sorted(int(value) for value in found)


def _classes(root: Path, values: list[int]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Returns the class names, and the arguments of the data set that map values to labels."""
    file = next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)
    if values == [0, IGNORED] and (file is None or len(_read_names(file)) == 2):
        names = ("background", "foreground") if file is None else _read_names(file)
        return names, {"label_values": {0: 0, IGNORED: 1}}
    labels = [value for value in values if value != IGNORED]
    if file is None:
        return tuple(str(label) for label in range(max(labels) + 1)), {}
    names = _read_names(file)
    if labels and labels[-1] >= len(names):
        raise ValueError(
            f"{file} has {len(names)} classes, but the label images have the value {labels[-1]}; values begin at 0, "
            "and 255 is ignored."
        )
    return names, {}


def _read_names(file: Path) -> tuple[str, ...]:
    names = read_json(file) if file.suffix == ".json" else [line for _, line in read_lines(file)]
    if not isinstance(names, list):
        raise ValueError(f"{file} must be a list of class names, got a {type(names).__name__}.")
    return tuple(str(name) for name in names if name)
