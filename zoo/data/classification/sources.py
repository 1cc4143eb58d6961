"""Sources of classification data: folders, lists, tar files and Hugging Face data sets.

A source returns a file, its label and its path by index. timm's readers do the reading; this module detects the layout
and reports early, in clear words, what is wrong with a data set. The package's README describes the layouts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from mmengine.logging import print_log
from timm.data.readers.img_extensions import get_img_extensions, set_img_extensions
from timm.data.readers.reader_factory import create_reader
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from timm.utils.misc import natural_key

from ....names import nearest_names, unknown_name
from ..common.class_maps import MAX_CLASSES, class_names, load_class_map
from ..common.image_files import EXAMPLE_SUFFIXES, ImageFinder, image_suffixes
from ..common.text_files import read_lines

READERS = ("auto", "folder", "tar", "hfds")
SPLITS = {"train", "training", "val", "valid", "validation", "test"}
"""Names of folders that hold a split rather than a class."""


class ImageSource(Protocol):
    """Images with labels, by index.

    Attributes:
        classes: Names by label; empty if the source has no names.
    """

    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """Returns the open file, which the caller closes, and the label."""
        ...

    def path(self, index: int) -> str:
        """Returns the file's path, or the path of a tar file and the name of the member in it."""
        ...


def _listed(names: Sequence[str], most: int = 5) -> str:
    """Lists the first few names for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _require_folder(path: Path) -> None:
    """Raises a ValueError that says how much of a path exists and what is there."""
    if path.is_dir():
        return
    if path.exists():
        raise ValueError(f"{path} is a file, not a folder of images.")
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    there = sorted(entry.name for entry in parent.iterdir())
    near = nearest_names(path.relative_to(parent).parts[0], there)
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    raise ValueError(f"There is no folder {path}: {parent} exists and contains {_listed(there) or 'nothing'}.{hint}")


class _ReaderSource:
    """A source that wraps one of timm's readers.

    Args:
        reader: Reader of timm.
        class_to_idx: Labels by class name.
    """

    def __init__(self, reader: Any, class_to_idx: Mapping[str, int]) -> None:
        self.reader = reader
        self.classes = class_names(class_to_idx)

    def __len__(self) -> int:
        return len(self.reader)

    def open(self, index: int) -> tuple[IO[bytes], int]:
        file, label = self.reader[index]
        return file, int(label)

    def path(self, index: int) -> str:
        return str(self.reader.filename(index, absolute=True))


class FolderSource:
    """A folder with one folder per class: `<root>/<class>/.../*.JPEG`.

    As in torchvision's `ImageFolder`, the folders in `root` name the classes, and images at any depth below them belong
    to them.

    Args:
        root: Folder that contains the folders of the classes.
        class_map: Labels by folder name; None numbers the folders in natural order.

    Raises:
        ValueError: If the folder does not exist, contains no images or images outside of the classes' folders, two
            classes are links to the same folder, or a class has no images.
    """

    def __init__(self, root: str, class_map: Mapping[str, int] | None = None) -> None:
        folder = Path(root)
        finder = ImageFinder()
        finder.visit(folder)
        names = _class_folders(folder, finder)
        for name in names:
            same = finder.visit(folder / name)
            if same is not None:
                raise ValueError(
                    f"{folder / name} and {same} are the same folder, so its images would have two classes: remove one "
                    "of the links."
                )
        files = {name: list(finder.find(folder / name)) for name in names}
        if summary := finder.summary(folder):
            print_log(summary, logger="current")
        if not any(files.values()):
            raise ValueError(f"{folder} has no images, such as files ending in {EXAMPLE_SUFFIXES}.")
        if class_map is None:
            empty = [name for name in names if not files[name]]
            if empty:
                raise ValueError(
                    f"{len(empty)} of the {len(names)} class folders in {folder} have no images: {_listed(empty)}. "
                    "Remove them, or set `class_map` to keep their labels."
                )
            class_map = {name: label for label, name in enumerate(names)}
        else:
            _check_mapped(class_map, {name for name in names if files[name]}, str(folder))
        self.classes = class_names(class_map)
        samples = [(path, class_map[name]) for name in names if name in class_map for path in files[name]]
        self.samples = sorted(samples, key=lambda sample: natural_key(sample[0]))

    def __len__(self) -> int:
        return len(self.samples)

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """Returns the open file, which the caller closes, and the label."""
        path, label = self.samples[index]
        return open(path, "rb"), label

    def path(self, index: int) -> str:
        """Returns the file's path."""
        return self.samples[index][0]


def _class_folders(folder: Path, finder: ImageFinder) -> list[str]:
    """Returns the names of the folders that are classes, in natural order.

    Raises:
        ValueError: If there are none, they are splits, or there are images beside them.
    """
    _require_folder(folder)
    with os.scandir(folder) as entries:
        top = sorted(entries, key=lambda entry: entry.name)
    loose = [entry.name for entry in top if entry.is_file() and finder.matches(entry.name)]
    if loose:
        raise ValueError(
            f"{folder} has images ({_listed(loose, 2)}) outside of any class's folder. Move them into one folder "
            "per class, or set `annotations` to a file with a path and a label per line."
        )
    names = sorted((entry.name for entry in top if entry.is_dir() and not entry.name.startswith(".")), key=natural_key)
    if not names:
        raise ValueError(f"{folder} has no classes: it must contain one folder of images per class.")
    if all(name.lower() in SPLITS for name in names):
        raise ValueError(
            f"The folders in {folder} ({_listed(names)}) are splits, not classes. Choose one: split={names[0]!r}."
        )
    return names


def _check_mapped(class_map: Mapping[str, int], found: set[str], place: str) -> None:
    """Raises if none of the folders is in the class map, and warns about those that are not."""
    unknown = sorted(found - set(class_map), key=natural_key)
    if len(unknown) == len(found):
        raise ValueError(f"The class map contains none of the {len(found)} classes in {place}: {_listed(unknown)}.")
    if unknown:
        message = f"{place}: {len(unknown)} of {len(found)} folders are not in the class map: {_listed(unknown)}."
        print_log(f"{message} They are skipped.", logger="current", level=logging.WARNING)


class TarSource(_ReaderSource):
    """One tar file, or a folder of tar files (one per class, or tar files of tar files).

    The class of an image is its outermost folder inside of the tar file, not counting folders that all images of the
    data set share ("train/"), or else the tar file's name. For more than 10 GB, timm caches the list of members in a
    file next to the tar files if it has write access, because reading it takes long.

    Args:
        root: The .tar file, or a folder of them.
        class_map: Labels by class name; None numbers the classes in natural order.

    Raises:
        ValueError: If the file does not exist, is compressed, contains no images, or some images have no class.
    """

    def __init__(self, root: str, class_map: Mapping[str, int] | None = None) -> None:
        path = Path(root)
        if path.is_file():
            if path.suffix.lower() != ".tar":
                raise ValueError(f"{path} is not a .tar file. Compressed archives have no random access: unpack them.")
        else:
            _require_folder(path)
            if not any(path.glob("*.tar")):
                raise ValueError(f"{path} contains no .tar files.")
        may_cache = os.access(path.parent if path.is_file() else path, os.W_OK)
        try:
            with _timm_finds_all_images():
                reader = ReaderImageInTar(str(path), cache_tarinfo=None if may_cache else False)
        except ValueError as error:
            # timm unpacks the list of images into two variables, which fails if there are no images.
            raise ValueError(f"{path} contains no images.") from error
        except (OSError, tarfile.TarError) as error:
            raise ValueError(f"{path} cannot be read as a tar file: {error}.") from error
        names = _tar_classes(reader.samples)
        if "" in names:
            raise ValueError(
                f"{path} has images outside of any class's folder: pack one folder per class into it, or the files of "
                "each class into a tar file per class."
            )
        found = sorted(set(names), key=natural_key)
        if class_map is None:
            class_map = {name: label for label, name in enumerate(found)}
        else:
            _check_mapped(class_map, set(found), str(path))
        mapped = [name in class_map for name in names]
        reader.samples = reader.samples[mapped]
        reader.targets = np.array([class_map[name] for name in names if name in class_map])
        super().__init__(reader, class_map)
        self._owner = os.getpid()

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """Returns the open file, which the caller closes, and the label."""
        if self._owner != os.getpid():
            # A forked process shares its parent's open files and their positions: their reads would interfere.
            self._forget_open_files()
            self._owner = os.getpid()
        return super().open(index)

    def path(self, index: int) -> str:
        """Returns the tar file's path and the member's name."""
        member, parent, child = self.reader.samples[index]
        parts = [self.reader.root, parent, child.name if child is not None else None, member.name]
        return "/".join(part for part in parts if part)

    def _forget_open_files(self) -> None:
        state = self.reader.tar_state
        for tar_file in [state] if self.reader.root_is_tar else state.values():
            tar_file.reset()
            for child in tar_file.children.values():
                child.reset()

    def __getstate__(self) -> dict[str, Any]:
        # Spawned workers need a pickle, and open files cannot be pickled.
        self._forget_open_files()
        return self.__dict__


@contextlib.contextmanager
def _timm_finds_all_images() -> Iterator[None]:
    """Lets timm's readers find files with any suffix of an image; by default they know three."""
    known = get_img_extensions()
    set_img_extensions(sorted(image_suffixes()))
    try:
        yield
    finally:
        set_img_extensions(known)


def _tar_classes(samples: np.ndarray) -> list[str]:
    """Returns the class of each image in timm's list of tar members; see `TarSource`.

    Args:
        samples: (images, 3): member, name of its tar file in the folder of tar files, and the tar file in that one.
    """
    folders = [Path(os.path.normpath(member.path)).parent.parts for member, _, _ in samples]
    above = [folder[:-1] for folder in folders]
    ends = zip(min(above), max(above), strict=False)
    shared = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], ends)))
    names = []
    for folder, (_, parent, child) in zip(folders, samples, strict=True):
        tar_file = child.name if child is not None else parent
        inside = folder[shared] if len(folder) > shared else ""
        names.append(inside or (Path(tar_file).stem if tar_file else ""))
    return names


class ListSource:
    """Images in a list with a path and a label per line, such as ImageNet's `val.txt`.

    Args:
        root: Folder that the paths are relative to.
        annotations: File of the list, absolute or relative to `root`. The label follows the last space of a line and is
            a number or a class name.
        class_map: Labels by class name; required if the list has names. If it has numbers, this provides their names.

    Raises:
        ValueError: If a file does not exist, a line has no label, or a label is not in the class map.
    """

    def __init__(self, root: str, annotations: str, class_map: Mapping[str, int] | None = None) -> None:
        folder = Path(root)
        _require_folder(folder)
        path = next((place for place in (Path(annotations), folder / annotations) if place.is_file()), None)
        if path is None:
            raise ValueError(
                f"The list {annotations!r} (annotations) does not exist, neither as given nor in {folder}."
            )
        self.samples: list[tuple[str, int]] = []
        missing: list[str] = []
        for number, line in read_lines(path):
            name, _, label = line.rpartition(" ")
            if not name:
                raise ValueError(f"{path}, line {number}: {line!r} is not a path and a label.")
            file = str(folder / name.strip())
            self.samples.append((file, self._label(label, class_map, f"{path}, line {number}")))
            if not os.path.isfile(file):
                missing.append(f"{file} (line {number})")
        if not self.samples:
            raise ValueError(f"The list {path} (annotations) is empty.")
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(self.samples)} files in {path} do not exist: {_listed(missing, 2)}."
            )
        highest = max(label for _, label in self.samples)
        self.classes = class_names(class_map) if class_map else tuple(str(label) for label in range(highest + 1))

    @staticmethod
    def _label(given: str, class_map: Mapping[str, int] | None, place: str) -> int:
        if class_map and given in class_map:
            return class_map[given]
        highest = max(class_map.values()) if class_map else MAX_CLASSES - 1
        # Python refuses to convert thousands of digits.
        if given.isdecimal() and len(given) <= len(str(MAX_CLASSES)) and int(given) <= highest:
            return int(given)
        if class_map:
            raise ValueError(f"{place}: {unknown_name('class', given, class_map)}")
        if given.isdecimal():
            raise ValueError(f"{place}: a label must be less than {MAX_CLASSES}, got {given[:20]}.")
        raise ValueError(f"{place}: the label {given!r} is not a number; names need a class_map.")

    def __len__(self) -> int:
        return len(self.samples)

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """Returns the open file, which the caller closes, and the label."""
        path, label = self.samples[index]
        return open(path, "rb"), label

    def path(self, index: int) -> str:
        """Returns the file's path."""
        return self.samples[index][0]


class HuggingFaceSource(_ReaderSource):
    """A data set of the Hugging Face Hub, or a local one in its format, read by the `datasets` package.

    Args:
        name: Name for `datasets.load_dataset`.
        split: Split of the data set, such as "train" or "validation".
        class_map: Labels by the data set's own labels or names; None keeps its own labels.
        options: Options of timm's reader: `input_key`, `target_key`, `root` (cache folder), `trust_remote_code`.

    Raises:
        ValueError: If the package is not installed, or the data set has no classes or no images.
    """

    def __init__(
        self,
        name: str,
        split: str,
        class_map: Mapping[str, int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if importlib.util.find_spec("datasets") is None:
            raise ValueError(f"Reading {name!r} needs the package 'datasets': pip install datasets.")
        reader: Any = create_reader(f"hfds/{name}", split=split, class_map=dict(class_map or {}), **(options or {}))
        if not reader.class_to_idx:
            raise ValueError(
                f"The data set {name!r} has no class labels under {reader.label_key!r}: set target_key in "
                "reader_options."
            )
        if not len(reader):
            raise ValueError(f"The data set {name!r} has no images in its split {split!r}.")
        super().__init__(reader, reader.class_to_idx)
        self._name = f"{name}/{split}"

    def path(self, index: int) -> str:
        """Returns the names of data set and split, the index, and the file's name if the data set has kept it."""
        name = self.reader.filename(index)
        return f"{self._name}/{index}" + (f"/{name}" if name else "")


def build_source(
    root: str,
    split: str | None = None,
    reader: str = "auto",
    class_map: Any = None,
    annotations: str | None = None,
    reader_options: Mapping[str, Any] | None = None,
) -> ImageSource:
    """Detects how a data set is stored and opens it.

    Args:
        root: A folder, a .tar file, or the name of a Hugging Face data set ("hfds/<name>", or any with reader="hfds").
        split: A folder in `root`, a tar file `<split>.tar` in it, or a split of the Hugging Face data set.
        reader: "auto", "folder", "tar" or "hfds". "auto" chooses "tar" if there are only tar files.
        class_map: See `load_class_map`.
        annotations: File with a path and a label per line, for reader="folder".
        reader_options: Options for "hfds"; see `HuggingFaceSource`.

    Raises:
        ValueError: If anything is missing, empty or contradictory; the message names the remedy.
    """
    if reader not in READERS:
        raise ValueError(unknown_name("reader", reader, READERS))
    root = os.path.expanduser(root)
    if root.startswith("hfds/") and reader in ("auto", "hfds"):
        reader, root = "hfds", root.removeprefix("hfds/")
    labels = None if class_map is None else load_class_map(class_map, root)
    if reader == "hfds":
        if annotations is not None:
            raise ValueError("`annotations` works with folders of images, not with a Hugging Face data set.")
        return HuggingFaceSource(root, split or "train", labels, reader_options)
    if reader_options:
        raise ValueError(f"reader_options ({', '.join(reader_options)}) work with Hugging Face data sets only.")

    place = Path(root)
    if split is not None:
        if place.is_file():
            raise ValueError(
                f"{place} is a single tar file: it has no split {split!r}. Set root to the file of the split."
            )
        tar_file = place / f"{split}.tar"
        place = (
            tar_file if reader != "folder" and tar_file.is_file() and not (place / split).is_dir() else place / split
        )
    if annotations is not None:
        if reader == "tar":
            raise ValueError("`annotations` works with folders of images, not with tar files.")
        return ListSource(str(place), annotations, labels)
    if reader == "auto":
        tar = place.is_file() or (place.is_dir() and any(place.glob("*.tar")) and not _has_folders(place))
        reader = "tar" if tar else "folder"
    return TarSource(str(place), labels) if reader == "tar" else FolderSource(str(place), labels)


def _has_folders(place: Path) -> bool:
    """Returns whether a folder contains folders."""
    with os.scandir(place) as entries:
        return any(entry.is_dir() for entry in entries)


def folder_class_names(root: str, split: str | None = None, reader: str = "auto") -> tuple[str, ...] | None:
    """Lists the classes of a data set that has one folder of images per class, without looking for the images.

    The arguments are those of `build_source`.

    Returns:
        Class names by label; None for other layouts.
    """
    folder = Path(root).expanduser() / (split or "")
    if reader not in ("auto", "folder") or not folder.is_dir() or any(folder.glob("*.tar")):
        return None
    with os.scandir(folder) as entries:
        folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    names = sorted((entry.name for entry in folders), key=natural_key)
    return None if all(name.lower() in SPLITS for name in names) else tuple(names)
