"""Segmentation data in folders of images and label images: your own, ADE20K and Pascal VOC."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ...registry import DATASETS
from ..common import class_maps
from ..common.image_files import EXAMPLE_SUFFIXES, ImageFinder
from ..common.paths import missing_path
from ..common.text_files import read_lines
from . import ade20k
from .dataset import Pair, SegmentationDataset, SegmentationTransform
from .label_maps import voc_palette

LABEL_SUFFIXES = frozenset((".bmp", ".png", ".tif", ".tiff"))
"""Suffixes of label images, which need one channel and lossless compression."""

ADE20K_ROOT = "data/ade/ADEChallengeData2016"
VOC_ROOT = "data/VOCdevkit/VOC2012"

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


@DATASETS.register_module()
class SegmentationFolders(SegmentationDataset):
    """A folder of images and a folder of label images with the same names, apart from the suffix.

    Label images have one channel, gray or palette (indices are read, not colors). Pixel values are labels, beginning at
    0; 255 marks pixels to ignore. Subfolders are searched, and must be the same in both folders.

    Args:
        root: Folder of the data set.
        images: Folder of the images, in `root`.
        labels: Folder of the label images, in `root`; None if there are none, as in a test set.
        split: File, in `root`, with the names of the samples to use, one per line, without suffix and relative to
            `images`. None uses all samples.
        classes: Names by label: a list, or a .txt (one name per line) or .json file, absolute or relative to `root`.
        image_ending: Part of the names of images before the suffix that label images do not have: "_leftImg8bit".
        label_ending: The same for label images: "_gtFine_labelTrainIds". Files without it are skipped.
        reduce_zero_label: Whether the value 0 is to be ignored and classes begin at 1.
        label_values: Label of each value in the files, 255 to ignore it, if the two differ: {0: 0, 255: 1}.
        skip_unlabelled: Whether images without a label image are skipped instead of raising.
        palette: [red, green, blue] by label, for plots; None uses Pascal VOC's colors.
        transform: Config of a registered transform, or a callable; see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Raises:
        ValueError: If a folder or file is missing, there are no images, two images have the same name, an image has no
            label image, or a line of `split` has no image; or see `ImageDataset`.
    """

    def __init__(
        self,
        root: str,
        images: str = "images",
        labels: str | None = "labels",
        split: str | None = None,
        classes: str | Sequence[str] | None = None,
        image_ending: str = "",
        label_ending: str = "",
        reduce_zero_label: bool = False,
        label_values: Mapping[int, int] | None = None,
        skip_unlabelled: bool = False,
        palette: Sequence[Sequence[int]] | None = None,
        transform: dict[str, Any] | SegmentationTransform | None = None,
        **options: Any,
    ) -> None:
        if classes is None:
            raise ValueError(f"The data set {root} needs classes: a list of names, or a .txt or .json file with them.")
        image_folder = Path(root, images)
        label_folder = None if labels is None else Path(root, labels)
        found = _files_by_name(image_folder, ImageFinder(), image_ending, "images")
        labelled = {}
        if label_folder is not None:
            labelled = _files_by_name(label_folder, ImageFinder(LABEL_SUFFIXES), label_ending, "labels")
        names = sorted(found) if split is None else _names_of_split(Path(root, split), found, image_folder)
        missing = [name for name in names if name not in labelled] if label_folder is not None else []
        if missing and not skip_unlabelled:
            example = label_folder / f"{missing[0]}{label_ending}.png" if label_folder is not None else ""
            raise ValueError(
                f"{len(missing)} of {len(names)} images in {image_folder} have no label image in {label_folder}, such "
                f"as {found[missing[0]]} (expected: {example}). Add them, list the other images in a split file, or "
                "set skip_unlabelled=True."
            )
        left_out = set(missing)
        super().__init__(
            f"{root} ({split or images})",
            [Pair(found[name], labelled.get(name)) for name in names if name not in left_out],
            class_maps.class_names(class_maps.load_class_map(classes, root)),
            transform,
            palette,
            reduce_zero_label,
            label_values,
            **options,
        )
        if missing:
            self.findings.append(f"{len(missing)} images without labels are skipped, such as {found[missing[0]]}.")
        alone = sorted(set(labelled) - set(found))
        if alone:
            self.findings.append(f"{len(alone)} label images have no image, such as {labelled[alone[0]]}.")

    @classmethod
    def class_names(cls, **arguments: Any) -> tuple[str, ...] | None:
        """Returns the names given as `classes`."""
        classes = arguments.get("classes")
        if classes is None:
            return None
        return class_maps.class_names(class_maps.load_class_map(classes, arguments.get("root") or ""))

    @classmethod
    def class_palette(cls, **arguments: Any) -> list[list[int]] | None:
        """Returns the colors given as `palette`."""
        palette = arguments.get("palette")
        return None if palette is None else [list(color) for color in palette]

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Checks that `root`, the folders of images and labels, and the split file exist."""
        root = arguments.get("root")
        if not root:
            return
        if not Path(root).exists():
            yield missing_path("root", root)
            return
        for argument, default in (("images", "images"), ("labels", "labels"), ("split", None)):
            path = arguments.get(argument, default)
            if path is not None and not Path(root, path).exists():
                yield missing_path(argument, Path(root, path))


@DATASETS.register_module()
class ADE20K(SegmentationFolders):
    """ADE20K's scene parsing benchmark: 20210 training and 2000 validation images, 150 classes.

    The value 0 in its files, "other", is ignored: label 0 is the value 1, "wall".

    Args:
        root: The folder ADEChallengeData2016, as in the archive.
        split: "training" or "validation".
        transform: Config of a registered transform, or a callable; see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Raises:
        ValueError: If files are missing; see `SegmentationFolders`.
    """

    def __init__(
        self,
        root: str = ADE20K_ROOT,
        split: str = "training",
        transform: dict[str, Any] | SegmentationTransform | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            root,
            images=f"images/{split}",
            labels=f"annotations/{split}",
            classes=ade20k.CLASSES,
            reduce_zero_label=True,
            palette=ade20k.PALETTE,
            transform=transform,
            **options,
        )

    @classmethod
    def class_names(cls, **arguments: Any) -> tuple[str, ...] | None:
        """Returns the benchmark's 150 names."""
        return ade20k.CLASSES

    @classmethod
    def class_palette(cls, **arguments: Any) -> list[list[int]] | None:
        """Returns the benchmark's colors."""
        return ade20k.PALETTE

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Checks that `root` and the folders of the split exist."""
        root, split = arguments.get("root", ADE20K_ROOT), arguments.get("split", "training")
        yield from super().check_paths(root=root, images=f"images/{split}", labels=f"annotations/{split}")


@DATASETS.register_module()
class PascalVOC(SegmentationFolders):
    """Pascal VOC's segmentation: 21 classes including background; the borders of objects (255) are ignored.

    Args:
        root: The folder VOC2012, as in the archive.
        split: List in ImageSets/Segmentation: "train", "val", "trainval", or "trainaug" if you have added it.
        labels: Folder of the label images: "SegmentationClassAug" for the augmented set.
        transform: Config of a registered transform, or a callable; see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Raises:
        ValueError: If files are missing; see `SegmentationFolders`.
    """

    def __init__(
        self,
        root: str = VOC_ROOT,
        split: str = "train",
        labels: str = "SegmentationClass",
        transform: dict[str, Any] | SegmentationTransform | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            root,
            images="JPEGImages",
            labels=labels,
            split=f"ImageSets/Segmentation/{split}.txt",
            classes=VOC_CLASSES,
            transform=transform,
            **options,
        )

    @classmethod
    def class_names(cls, **arguments: Any) -> tuple[str, ...] | None:
        """Returns the 21 names."""
        return VOC_CLASSES

    @classmethod
    def class_palette(cls, **arguments: Any) -> list[list[int]] | None:
        """Returns Pascal VOC's colors."""
        return voc_palette(len(VOC_CLASSES))

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Checks that `root`, the folders of images and labels, and the list of the split exist."""
        yield from super().check_paths(
            root=arguments.get("root", VOC_ROOT),
            images="JPEGImages",
            labels=arguments.get("labels", "SegmentationClass"),
            split=f"ImageSets/Segmentation/{arguments.get('split', 'train')}.txt",
        )


def _files_by_name(folder: Path, finder: ImageFinder, ending: str, argument: str) -> dict[str, str]:
    """Maps names (relative path without ending and suffix) to the paths of a folder's files.

    Raises:
        ValueError: If the folder is missing or has no such files, or two files have the same name.
    """
    if not folder.is_dir():
        near = next((parent for parent in folder.parents if parent.is_dir()), Path("."))
        inside = ", ".join(sorted(entry.name for entry in near.iterdir() if entry.is_dir())[:8]) or "no folders"
        raise ValueError(f"There is no folder {folder}: correct root or {argument}. {near} contains {inside}.")
    found: dict[str, str] = {}
    for path in finder.find(folder):
        stem = os.path.splitext(path)[0]
        if not stem.endswith(ending):
            continue
        name = Path(os.path.relpath(stem.removesuffix(ending), folder)).as_posix()
        if name in found:
            raise ValueError(f"{found[name]} and {path} have the same name: remove one of them.")
        found[name] = path
    if summary := finder.summary(folder, argument):
        print_log(summary, logger="current")
    if not found:
        wanted = f" whose names end with {ending!r} and" if ending else ""
        suffixes = ", ".join(sorted(LABEL_SUFFIXES)) if argument == "labels" else EXAMPLE_SUFFIXES
        raise ValueError(f"The folder {folder} has no files{wanted} with a suffix of {argument}, such as {suffixes}.")
    return found


def _names_of_split(file: Path, found: Mapping[str, str], folder: Path) -> list[str]:
    """Reads the names in a split file, in its order.

    Raises:
        ValueError: If the file does not exist, is empty or lists a sample twice, or a name has no image.
    """
    if not file.is_file():
        beside = (
            ", ".join(sorted(entry.name for entry in file.parent.glob("*.txt"))[:8]) if file.parent.is_dir() else ""
        )
        raise ValueError(f"There is no split file {file}." + (f" Its folder contains {beside}." if beside else ""))
    names: dict[str, int] = {}
    for number, given in read_lines(file):
        name = given if given in found else os.path.splitext(given)[0]
        if name not in found:
            raise ValueError(f"{file} lists {given!r} in line {number}, which is not an image in {folder}.")
        if name in names:
            raise ValueError(f"{file} lists {given!r} in line {number} and in line {names[name]}.")
        names[name] = number
    if not names:
        raise ValueError(f"The split file {file} is empty.")
    return list(names)
