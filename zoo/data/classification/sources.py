"""Sources of classification data: folders, lists, tar files and Hugging Face data sets.

A source returns a file, its label and its path by index. timm's readers do the reading; this module detects the layout
and reports early, in clear words, what is wrong with a data set. The package's README describes the layouts.
"""

from __future__ import annotations

import collections
import importlib.util
import logging
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from mmengine.logging import print_log
from timm.data.readers.img_extensions import get_img_extensions
from timm.data.readers.reader_factory import create_reader
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from timm.utils.misc import natural_key

from ....names import nearest_names, unknown_name
from ..common.class_maps import class_names, load_class_map

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


class FolderSource(_ReaderSource):
    """A folder with one folder per class: `<root>/<class>/.../*.JPEG`.

    Args:
        root: Folder that contains the folders of the classes.
        class_map: Labels by folder name; None numbers the folders in natural order.

    Raises:
        ValueError: If the folder does not exist, contains no images or images outside of the classes' folders, or a
            class has no images.
    """

    def __init__(self, root: str, class_map: Mapping[str, int] | None = None) -> None:
        folder = Path(root)
        _require_folder(folder)
        extensions = get_img_extensions(as_set=True)
        with os.scandir(folder) as entries:
            top = sorted(entries, key=lambda entry: entry.name)
        loose = [entry.name for entry in top if entry.is_file() and Path(entry.name).suffix.lower() in extensions]
        if loose:
            raise ValueError(
                f"{folder} has images ({_listed(loose, 2)}) outside of any class's folder. Move them into one folder "
                "per class, or set `annotations` to a file with a path and a label per line."
            )
        folders = [entry.name for entry in top if entry.is_dir() and not entry.name.startswith(".")]
        folders.sort(key=natural_key)
        if not folders:
            raise ValueError(f"{folder} has no classes: it must contain one folder of images per class.")
        if all(name.lower() in SPLITS for name in folders):
            raise ValueError(
                f"The folders in {folder} ({_listed(folders)}) are splits, not classes. Choose one: "
                f"split={folders[0]!r}."
            )

        images = collections.Counter()
        leaves = set()
        for place, subfolders, files in os.walk(folder, followlinks=True):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            count = sum(os.path.splitext(file)[1].lower() in extensions for file in files)
            if count or not subfolders:
                leaves.add(os.path.basename(place))
                images[os.path.basename(place)] += count
        if not sum(images.values()):
            raise ValueError(f"{folder} has no images; the suffixes of images are {', '.join(sorted(extensions))}.")
        if class_map is None:
            empty = sorted((name for name in leaves if not images[name]), key=natural_key)
            if empty:
                raise ValueError(
                    f"{len(empty)} of the {len(leaves)} class folders in {folder} have no images: {_listed(empty)}. "
                    "Remove them, or set `class_map` to keep their labels."
                )
            class_map = {name: label for label, name in enumerate(sorted(leaves, key=natural_key))}
        else:
            _check_mapped(class_map, {name for name in leaves if images[name]}, str(folder))
        super().__init__(create_reader("", root=str(folder), class_map=dict(class_map)), class_map)


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

    The class of an image is its folder inside of the tar file, or else the tar file's name. For more than 10 GB, timm
    caches the list of members in a file next to the tar files if it has write access, because reading it takes long.

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
        labels: Any = dict(class_map) if class_map else ""
        try:
            reader = ReaderImageInTar(str(path), class_map=labels, cache_tarinfo=None if may_cache else False)
        except ValueError as error:
            # timm unpacks the list of images into two variables, which fails if there are no images.
            of_the_map = f" of the {len(class_map)} classes in the class map" if class_map else ""
            raise ValueError(f"{path} contains no images{of_the_map}.") from error
        except (OSError, tarfile.TarError) as error:
            raise ValueError(f"{path} cannot be read as a tar file: {error}.") from error
        if {"", "."} & set(reader.class_name_to_idx or ()):
            # timm names a class after the last part of the path: "." in an archive of `tar cf cat.tar -C cat .`.
            raise ValueError(
                f"{path} has images outside of any class's folder (or under './'): pack one folder per class into it, "
                "or the files of each class, without './', into a tar file per class."
            )
        super().__init__(reader, dict(reader.class_name_to_idx or {}))
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
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(" ")
            if not name:
                raise ValueError(f"{path}, line {number}: {line!r} is not a path and a label.")
            self.samples.append((str(folder / name.strip()), self._label(label, class_map, f"{path}, line {number}")))
        if not self.samples:
            raise ValueError(f"The list {path} (annotations) is empty.")
        missing = [name for name, _ in self.samples if not os.path.exists(name)]
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
        if given.isdecimal() and (not class_map or int(given) <= max(class_map.values())):
            return int(given)
        if class_map:
            raise ValueError(f"{place}: {unknown_name('class', given, class_map)}")
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
        Class names by label; None for other layouts, and for nested folders, where only the images show which folders
        are classes.
    """
    folder = Path(root).expanduser() / (split or "")
    if reader not in ("auto", "folder") or not folder.is_dir() or any(folder.glob("*.tar")):
        return None
    with os.scandir(folder) as entries:
        folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    names = sorted((entry.name for entry in folders), key=natural_key)
    if all(name.lower() in SPLITS for name in names) or any(_has_folders(folder / name) for name in names):
        return None
    return tuple(names)
