"""Converts users' data sets to COCO's format."""

from __future__ import annotations

import collections
import os
import shutil
from pathlib import Path
from typing import Literal

from ....names import unknown_name
from ...files import write_json
from .contents import AnnotatedImages, Content

IMAGE_MODES = ("copy", "link", "none")


def write_coco(content: Content, out: str | os.PathLike[str], images: Literal["copy", "link", "none"] = "copy") -> Path:
    """Writes a data set in COCO's own layout: <split>/* and annotations/instances_<split>.json.

    Images keep their paths within their split. Crowds and polygons are kept as they were read.

    Args:
        content: Images with objects, in any format.
        out: New or empty folder.
        images: "copy" copies the images, "link" makes symbolic links, "none" writes the annotations alone.

    Returns:
        The folder.

    Raises:
        ValueError: The data set has no objects, `out` is not empty, or two images get the same path.
    """
    if not isinstance(content, AnnotatedImages):
        raise ValueError(f"COCO's format is for objects, but {content.root} is a data set for {content.kind}.")
    if images not in IMAGE_MODES:
        raise ValueError(unknown_name("value of images", images, IMAGE_MODES))
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: choose another one, or remove it.")
    for split, file in content.splits.items():
        paths = content.image_paths(split)
        names = _names(split, paths)
        if images != "none":
            for path, name in zip(paths, names, strict=True):
                _place(path, folder / split / name, images)
        records = [{**record, "file_name": name} for record, name in zip(file["images"], names, strict=True)]
        write_json(folder / "annotations" / f"instances_{split}.json", {**file, "images": records}, indent=None)
    return folder


def _names(split: str, paths: list[Path]) -> list[str]:
    """Returns the paths of the images within the folder that all of them are in."""
    common = os.path.commonpath([path.parent for path in paths])
    names = [Path(os.path.relpath(path, common)).as_posix() for path in paths]
    name, count = collections.Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} images of the split {split!r} are the same file: {name}.")
    return names


def _place(source: Path, target: Path, mode: str) -> None:
    """Copies an image, or links to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "copy":
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source.resolve())
