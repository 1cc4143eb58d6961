"""Pascal VOC's format: one XML file of boxes per image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from timm.utils.misc import natural_key

from ..common.image_files import ImageFinder
from ..common.text_files import read_lines
from .base import DataFormat, register_format
from .contents import AnnotatedImages
from .objects import CocoBuilder


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _Image(NamedTuple):
    file_name: str
    height: int
    width: int
    objects: list[_Object]


@register_format
class PascalVocXml(DataFormat):
    """Pascal VOC's own layout, and XML files beside the images, as labelImg writes them."""

    name = "Pascal VOC XML"
    layout = "Annotations/*.xml, JPEGImages/*.jpg and ImageSets/Main/train.txt, or *.xml beside the images"

    @classmethod
    def recognizes(cls, root: Path) -> bool:
        """Returns whether there is an XML file whose root is <annotation>."""
        first = next(_xml_files(root), None)
        return first is not None and b"<annotation" in first.read_bytes()[:4096]

    @classmethod
    def read(cls, root: Path) -> AnnotatedImages:
        """Reads all XML files; the lists in ImageSets/Main are the splits, if there are some.

        Coordinates count pixels from 1, as in Pascal VOC. Difficult objects become crowds, which are neither trained
        nor evaluated.

        Raises:
            ValueError: An XML file is wrong, or its image is not found; the message names the file.
        """
        finder = ImageFinder()
        by_name = {Path(path).stem: path for path in finder.find(root)}
        images = {path.stem: _read(path, root, by_name) for path in _xml_files(root)}
        classes = sorted({each.name for image in images.values() for each in image.objects}, key=natural_key)
        if not classes:
            raise ValueError(f"The XML files in {root} have no objects.")
        labels = {name: label for label, name in enumerate(classes)}
        splits = {}
        for split, names in (_lists(root) or {"train": sorted(images, key=natural_key)}).items():
            builder = CocoBuilder(classes)
            for name in names:
                if name not in images:
                    raise ValueError(f"The list of the split {split!r} names {name!r}, which has no XML file.")
                image = images[name]
                builder.add_image(image.file_name, image.height, image.width)
                for each in image.objects:
                    builder.add_box(labels[each.name], each.box, ignore=each.difficult)
            splits[split] = builder.content()
        del finder.left_out[".xml"], finder.left_out[".txt"]
        return AnnotatedImages(
            root=root,
            classes=tuple(classes),
            splits=splits,
            folders=dict.fromkeys(splits, "."),
            has_masks=False,
            left_out=finder.left_out,
        )


def _xml_files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from map(Path, ImageFinder([".xml"]).find(root))


def _lists(root: Path) -> dict[str, list[str]]:
    """Reads the names in ImageSets/Main/train.txt and so on."""
    folder = root / "ImageSets" / "Main"
    found = {}
    for split in ("train", "val", "test"):
        file = folder / f"{split}.txt"
        if file.is_file():
            found[split] = [line.split()[0] for _, line in read_lines(file)]
    return found


def _read(path: Path, root: Path, by_name: dict[str, str]) -> _Image:
    """Reads an XML file."""
    try:
        tree = ElementTree.parse(path).getroot()
        width, height = (int(float(tree.findtext(f"size/{side}") or "")) for side in ("width", "height"))
        objects = [
            _Object(str(each.findtext("name")), _box(each), (each.findtext("difficult") or "0").strip() == "1")
            for each in tree.iter("object")
        ]
    except (ElementTree.ParseError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not an annotation in Pascal VOC's format: {error}.") from error
    named = Path(tree.findtext("filename") or "").stem
    image = by_name.get(path.stem) or by_name.get(named)
    if image is None:
        raise ValueError(f"{path}: there is no image {named or path.stem} in {root}.")
    return _Image(Path(os.path.relpath(image, root)).as_posix(), height, width, objects)


def _box(element: ElementTree.Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (
        float(element.findtext(f"bndbox/{side}") or "nan") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if not (left <= right and top <= bottom):  # also false for NaN
        raise ValueError(f"the box of {element.findtext('name')!r} has no or wrong corners")
    return left - 1, top - 1, right, bottom
