"""Sets of images and label images in folders: users' own, ADE20K and Pascal VOC."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...registry import DATASETS
from ..common import class_maps
from ..common.paths import missing_path
from . import ade20k
from .dataset import Pair, SegmentationDataset, SegmentationTransform
from .label_maps import voc_palette

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
LABEL_SUFFIXES = frozenset((".bmp", ".png", ".tif", ".tiff"))

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
    """A folder of images and one of label images; an image's labels have its name, whatever the two suffixes.

    Label images have one channel, gray or palette (the indices count, not the colours), and hold class numbers from 0
    on; 255 marks pixels that do not count. Folders in the two folders are gone through, too, and must be alike in both.

    Args:
        root: the folder above.
        images: the images' folder, in `root`.
        labels: the label images' folder, in `root`; None where there are none, as in a test set.
        split: a file, in `root`, with a name a line (without suffix, relative to `images`), of the samples to take;
            None takes all.
        classes: names by label: a list, or a .txt (a name a line) or .json file, also relative to `root`.
        image_ending: what all names of images end with before the suffix, and labels do not: "_leftImg8bit".
        label_ending: the same of label images: "_gtFine_labelTrainIds". Files without it are left out.
        reduce_zero_label: 0 in the files means nothing, and the classes begin with 1.
        label_values: the label of each value in the files, 255 for none, where they are not the same: {0: 0, 255: 1}.
        skip_unlabelled: leave images without label image out, instead of raising.
        palette: [red, green, blue] by label, for drawing; None for Pascal VOC's colours.
        transform: see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Raises:
        ValueError: a folder or file is missing, no images are found, two images have one name, an image has no labels,
            or a line of `split` has no image; also see `SegmentationDataset`.
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
            raise ValueError(
                f"The data set {root} needs classes: a list of names by label, or a .txt or .json file with them."
            )
        image_folder = Path(root, images)
        label_folder = None if labels is None else Path(root, labels)
        found = _files_by_name(image_folder, IMAGE_SUFFIXES, image_ending, "images")
        labelled = {} if label_folder is None else _files_by_name(label_folder, LABEL_SUFFIXES, label_ending, "labels")
        names = sorted(found) if split is None else _names_of_split(Path(root, split), found, image_folder)
        missing = [name for name in names if name not in labelled] if label_folder is not None else []
        if missing and not skip_unlabelled:
            example = label_folder / f"{missing[0]}{label_ending}.png" if label_folder is not None else ""
            raise ValueError(
                f"{len(missing)} of {len(names)} images in {image_folder} have no label image in {label_folder}, such "
                f"as {found[missing[0]]} (its labels would be {example}). Add them, name the others in a split file, "
                "or set skip_unlabelled=True."
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
            self.findings.append(f"{len(missing)} images without labels were left out, such as {found[missing[0]]}.")
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
        """Looks for `root`, the folders of images and labels, and the split file."""
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

    The number 0 in its files, "other", does not count: label 0 is the number 1, "wall".

    Args:
        root: the folder ADEChallengeData2016, as its archive has it.
        split: "training" or "validation".
        transform: see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Raises:
        ValueError: see `SegmentationFolders`.
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
        """Looks for `root`, and for the folders of the split in it."""
        root, split = arguments.get("root", ADE20K_ROOT), arguments.get("split", "training")
        yield from super().check_paths(root=root, images=f"images/{split}", labels=f"annotations/{split}")


@DATASETS.register_module()
class PascalVOC(SegmentationFolders):
    """Pascal VOC's segmentation: 21 classes, background first; the seams between objects (255) do not count.

    Args:
        root: the folder VOC2012, as its archive has it.
        split: a list in ImageSets/Segmentation: "train", "val", "trainval", or "trainaug" where it was added.
        labels: the folder of the label images: "SegmentationClassAug" for the augmented set.
        transform: see `SegmentationDataset`.
        **options: See `ImageDataset`.

    Raises:
        ValueError: see `SegmentationFolders`.
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
        """Looks for `root`, the folders of images and labels, and the list of the split."""
        yield from super().check_paths(
            root=arguments.get("root", VOC_ROOT),
            images="JPEGImages",
            labels=arguments.get("labels", "SegmentationClass"),
            split=f"ImageSets/Segmentation/{arguments.get('split', 'train')}.txt",
        )


def _files_by_name(folder: Path, suffixes: frozenset[str], ending: str, argument: str) -> dict[str, str]:
    """Finds a folder's files, by their path in it without ending and suffix.

    Raises:
        ValueError: the folder is missing or has no such files, or two have one name.
    """
    if not folder.is_dir():
        near = next((parent for parent in folder.parents if parent.is_dir()), Path("."))
        inside = ", ".join(sorted(one.name for one in near.iterdir() if one.is_dir())[:8]) or "no folders"
        raise ValueError(f"There is no folder {folder}: correct root or {argument}. {near} has {inside}.")
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix.lower() not in suffixes or not stem.endswith(ending) or file.startswith("."):
                continue
            path = os.path.join(place, file)
            name = Path(os.path.relpath(place, folder), stem.removesuffix(ending)).as_posix()
            if name in found:
                raise ValueError(f"{found[name]} and {path} have one name; which is meant? Move one away.")
            found[name] = path
    if not found:
        wanted = f"names ending with {ending!r} and " if ending else ""
        raise ValueError(
            f"The folder {folder} has no files of {wanted}one of the suffixes {', '.join(sorted(suffixes))}."
        )
    return found


def _names_of_split(file: Path, found: Mapping[str, str], folder: Path) -> list[str]:
    """Reads the names that a split file lists, in its order.

    Raises:
        ValueError: there is no such file, it is empty or names one sample twice, or a name has no image.
    """
    if not file.is_file():
        beside = ", ".join(sorted(one.name for one in file.parent.glob("*.txt"))[:8]) if file.parent.is_dir() else ""
        raise ValueError(f"There is no split file {file}." + (f" Beside it: {beside}." if beside else ""))
    names: dict[str, int] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        given = line.strip()
        if not given:
            continue
        name = given if given in found else os.path.splitext(given)[0]
        if name not in found:
            raise ValueError(f"{file} names {given!r} in line {number}, which is no image in {folder}.")
        if name in names:
            raise ValueError(f"{file} names {given!r} in line {number} and in line {names[name]}.")
        names[name] = number
    if not names:
        raise ValueError(f"The split file {file} is empty.")
    return list(names)
