"""COCO's format: one or more JSON files with images, annotations and categories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.text_files import read_json
from .base import DataFormat, register_format
from .contents import AnnotatedImages
from .splits import split_of

_KEYS = ("images", "annotations", "categories")
_SNIFFED_BYTES = 2**20


@register_format
class CocoFiles(DataFormat):
    """COCO's own layout, Roboflow's, and any other folder of images with JSON files in COCO's format."""

    name = "COCO JSON"
    layout = "annotations/instances_train.json and train/*.jpg, or train/_annotations.coco.json, or one JSON file"

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether there is a file with COCO's keys."""
        return next(_annotation_files(root), None) is not None

    @classmethod
    def read(cls, root: Path) -> AnnotatedImages:
        """Reads the annotation files, one per split.

        Raises:
            ValueError: A file is damaged, two files are for the same split, they have different categories, or the
                images are not found.
        """
        files = list(_annotation_files(root))
        instances = [path for path in files if "instances" in path.name]
        folder = root if root.is_dir() else root.parent
        by_split: dict[str, Path] = {}
        for path in instances or files:
            split = _split_in(path, folder) or "train"
            if split in by_split:
                raise ValueError(
                    f"{by_split[split]} and {path} are both annotation files for the split {split!r}: name the split "
                    "in the file's name, as in instances_train.json and instances_val.json, or remove one."
                )
            by_split[split] = path
        contents = {split: _read_json(path) for split, path in by_split.items()}
        classes = {split: _class_names(by_split[split], content) for split, content in contents.items()}
        first = classes.get("train") or next(iter(classes.values()))
        for split, names in classes.items():
            if names != first:
                raise ValueError(
                    f"{by_split[split]} has the categories {', '.join(names)}, but the file for training has "
                    f"{', '.join(first)}."
                )
        return AnnotatedImages(
            root=folder,
            classes=first,
            splits=contents,
            folders={split: _image_folder(folder, by_split[split], content) for split, content in contents.items()},
            has_masks=any(one.get("segmentation") for content in contents.values() for one in content["annotations"]),
            files=by_split,
        )


def _annotation_files(root: Path) -> Iterator[Path]:
    """Yields the JSON files with COCO's keys, at most two folders deep."""
    candidates = [root] if root.is_file() else sorted({*root.glob("*.json"), *root.glob("*/*.json")})
    for path in candidates:
        if path.suffix.lower() != ".json" or path.name.startswith("."):
            continue
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
            file.seek(max(0, path.stat().st_size - _SNIFFED_BYTES))
            end = file.read()
        if start.lstrip().startswith(b"{") and all(
            f'"{key}"'.encode() in start + end for key in ("images", "categories")
        ):
            yield path


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    missing = [key for key in _KEYS if not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(f"{path} is not in COCO's format: it has no list {', '.join(map(repr, missing))}.")
    for key in _KEYS:
        strange = next((index for index, entry in enumerate(content[key]) if not isinstance(entry, dict)), None)
        if strange is not None:
            raise ValueError(f"{path}: {key}[{strange}] must be an object, got {content[key][strange]!r:.60}.")
    return content


def _class_names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(str(entry["name"]) for entry in sorted(content["categories"], key=lambda entry: entry["id"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: every category needs a number 'id' and a 'name'.") from error


def _split_in(path: Path, root: Path) -> str | None:
    """Returns the split that the name of a file, or of the folder that contains it, mentions."""
    names = [path.stem] if path.parent == root else [path.stem, path.parent.name]
    words = [word for name in names for word in re.findall("[a-z]+", name.lower())]
    return next((split for split in map(split_of, words) if split is not None), None)


def _image_folder(root: Path, file: Path, content: dict[str, Any]) -> str:
    """Finds the folder that the file names in an annotation file are relative to; returns it relative to `root`."""
    first = next((str(image.get("file_name")) for image in content["images"]), None)
    if first is None:
        raise ValueError(f"{file} has no images.")
    words = re.findall(r"[a-z]+\d*", file.stem.lower())
    folders = [
        file.parent,
        *(root / word for word in words),
        root / "images",
        *(root / "images" / word for word in words),
    ]
    for folder in [*folders, root, *sorted(place for place in root.glob("*/") if place.is_dir())]:
        if (folder / first).is_file():
            return Path(os.path.relpath(folder, root)).as_posix()
    raise ValueError(
        f"{file} names the image {first}, which is neither beside it nor in one of the folders of {root}: put the "
        "images of each split into a folder of its name."
    )
