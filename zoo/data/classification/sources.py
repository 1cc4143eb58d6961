"""Where the images of a classification data set lie: folders, lists, tar files, Hugging Face data sets.

A source knows, by index, a file's bytes, its label and its name. Reading is timm's readers' work; finding out early,
and in clear words, what is wrong with a data set is done here. The layouts are described in this package's README.
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
"""Names of folders that hold a part of a data set rather than a class."""


class ImageSource(Protocol):
    """Images with labels, by index.

    Attributes:
        classes: names, by label; empty where the source knows no names.
    """

    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """The file, to be closed by the caller, and the label."""
        ...

    def path(self, index: int) -> str:
        """What the file is called: a path, or the member's name in a tar file."""
        ...


def _listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _require_folder(path: Path) -> None:
    """Raises a ValueError that says how much of a path exists, and what lies there."""
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
    raise ValueError(f"There is no folder {path}: {parent} exists and holds {_listed(there) or 'nothing'}.{hint}")


class _ReaderSource:
    """A source on one of timm's readers.

    Args:
        reader: of timm.
        class_to_idx: labels by class name.
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
    """A folder with one folder a class: `<root>/<class>/.../*.JPEG`.

    Args:
        root: the folder that holds the classes' folders.
        class_map: labels by folder name; None numbers the folders in natural order.

    Raises:
        ValueError: there is no such folder, no image in it, images outside of a class's folder, or a class without
            images.
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
                f"{folder} holds images ({_listed(loose, 2)}) outside of any class's folder. Move them into one folder "
                "a class, or give `annotations`, a file with a path and a label a line."
            )
        folders = [entry.name for entry in top if entry.is_dir() and not entry.name.startswith(".")]
        folders.sort(key=natural_key)
        if not folders:
            raise ValueError(f"{folder} has no classes: it must hold one folder of images a class.")
        if all(name.lower() in SPLITS for name in folders):
            raise ValueError(
                f"The folders in {folder} ({_listed(folders)}) are no classes. Choose one: split={folders[0]!r}."
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
            raise ValueError(f"{folder} holds no images; the suffixes {', '.join(sorted(extensions))} count as images.")
        if class_map is None:
            empty = sorted((name for name in leaves if not images[name]), key=natural_key)
            if empty:
                raise ValueError(
                    f"{len(empty)} of the {len(leaves)} class folders in {folder} hold no images: {_listed(empty)}. "
                    "Remove them, or give `class_map` to keep their labels."
                )
            class_map = {name: label for label, name in enumerate(sorted(leaves, key=natural_key))}
        else:
            _check_mapped(class_map, {name for name in leaves if images[name]}, str(folder))
        super().__init__(create_reader("", root=str(folder), class_map=dict(class_map)), class_map)


def _check_mapped(class_map: Mapping[str, int], found: set[str], place: str) -> None:
    """Raises if none of the folders found is in the class map; warns of those that are not."""
    unknown = sorted(found - set(class_map), key=natural_key)
    if len(unknown) == len(found):
        raise ValueError(f"The class map has none of the {len(found)} classes in {place}: {_listed(unknown)}.")
    if unknown:
        message = f"{place}: {len(unknown)} of {len(found)} folders are not in the class map: {_listed(unknown)}."
        print_log(f"{message} They are left out.", logger="current", level=logging.WARNING)


class TarSource(_ReaderSource):
    """One tar file, or a folder of tar files (one a class, or tar files of tar files).

    The class of an image is the folder that it lies in inside of the tar file, else the tar file's name. Over 10 GB,
    timm keeps a list of the contents in a file beside them, if it may write there: reading it anew takes long.

    Args:
        root: the .tar file, or the folder that holds them.
        class_map: labels by class name; None numbers the classes in natural order.

    Raises:
        ValueError: there is no such file, it is compressed, it holds no images, or some have no class.
    """

    def __init__(self, root: str, class_map: Mapping[str, int] | None = None) -> None:
        path = Path(root)
        if path.is_file():
            if path.suffix.lower() != ".tar":
                raise ValueError(f"{path} is no .tar file; compressed ones cannot be read out of order: unpack them.")
        else:
            _require_folder(path)
            if not any(path.glob("*.tar")):
                raise ValueError(f"{path} holds no .tar files.")
        may_cache = os.access(path.parent if path.is_file() else path, os.W_OK)
        labels: Any = dict(class_map) if class_map else ""
        try:
            reader = ReaderImageInTar(str(path), class_map=labels, cache_tarinfo=None if may_cache else False)
        except ValueError as error:
            # timm unpacks the list of images that it found into two, which fails where there is none.
            of_the_map = f" of the {len(class_map)} classes in the class map" if class_map else ""
            raise ValueError(f"{path} holds no images{of_the_map}.") from error
        except (OSError, tarfile.TarError) as error:
            raise ValueError(f"{path} cannot be read as a tar file: {error}.") from error
        if {"", "."} & set(reader.class_name_to_idx or ()):
            # timm calls a class by the last part of the path, which is "." for what `tar cf cat.tar -C cat .` packs.
            raise ValueError(
                f"{path} holds images outside of any class's folder (or under './'): pack one folder a class into it, "
                "or the files of one class, without './', into one tar file a class."
            )
        super().__init__(reader, dict(reader.class_name_to_idx or {}))
        self._owner = os.getpid()

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """The file, to be closed by the caller, and the label."""
        if self._owner != os.getpid():
            # A forked process shares its parent's open files, and so their positions: reads would get mixed up.
            self._forget_open_files()
            self._owner = os.getpid()
        return super().open(index)

    def path(self, index: int) -> str:
        """The tar file's path and the member's name."""
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
        # Open files cannot be pickled, as spawned workers need it.
        self._forget_open_files()
        return self.__dict__


class ListSource:
    """Images named by a list: a path and a label a line, as in ImageNet's `val.txt`.

    Args:
        root: what the paths are relative to.
        annotations: the list's file, also relative to `root`. The label, after the last space, is a number or a
            class's name.
        class_map: labels by class name, needed where labels are names. Where labels are numbers, it only gives the
            names.

    Raises:
        ValueError: a file does not exist, a line has no label, or a label is not in the class map.
    """

    def __init__(self, root: str, annotations: str, class_map: Mapping[str, int] | None = None) -> None:
        folder = Path(root)
        _require_folder(folder)
        path = next((place for place in (Path(annotations), folder / annotations) if place.is_file()), None)
        if path is None:
            raise ValueError(f"The list of annotations {annotations!r} is no file, neither as given nor in {folder}.")
        self.samples: list[tuple[str, int]] = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(" ")
            if not name:
                raise ValueError(f"{path}, line {number}: {line!r} is no path and label.")
            self.samples.append((str(folder / name.strip()), self._label(label, class_map, f"{path}, line {number}")))
        if not self.samples:
            raise ValueError(f"The list of annotations {path} is empty.")
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
        raise ValueError(f"{place}: the label {given!r} is no number; names need a class_map.")

    def __len__(self) -> int:
        return len(self.samples)

    def open(self, index: int) -> tuple[IO[bytes], int]:
        """The file, to be closed by the caller, and the label."""
        path, label = self.samples[index]
        return open(path, "rb"), label

    def path(self, index: int) -> str:
        """The file's path."""
        return self.samples[index][0]


class HuggingFaceSource(_ReaderSource):
    """A data set of the Hugging Face hub, or on disk in its format, through the `datasets` package.

    Args:
        name: as `datasets.load_dataset` takes it.
        split: of the data set, such as "train" or "validation".
        class_map: labels by the data set's own labels or names; None keeps its own.
        options: of timm's reader: `input_key`, `target_key`, `root` (the cache's folder), `trust_remote_code`.

    Raises:
        ValueError: the package is not installed, or the data set has no classes.
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
                f"The data set {name!r} has no class labels under {reader.label_key!r}: see reader_options."
            )
        if not len(reader):
            raise ValueError(f"The data set {name!r} has no images in its split {split!r}.")
        super().__init__(reader, reader.class_to_idx)
        self._name = f"{name}/{split}"

    def path(self, index: int) -> str:
        """The file's name where the data set has kept it, with the data set's name and the index."""
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
    """Finds out how a data set is stored and opens it.

    Args:
        root: a folder, a .tar file, or with "hfds" (or as "hfds/<name>") the name of a Hugging Face data set.
        split: a folder in `root`, a tar file `<split>.tar` in it, or a Hugging Face data set's split.
        reader: one of "auto", "folder", "tar", "hfds". "auto" takes "tar" where there are only tar files.
        class_map: see `load_class_map`.
        annotations: a list of paths and labels, for the reader "folder".
        reader_options: for "hfds": `input_key`, `target_key`, `root` (the cache's folder), `trust_remote_code`.

    Raises:
        ValueError: anything is missing, empty or contradicts itself; the message says what to do.
    """
    if reader not in READERS:
        raise ValueError(unknown_name("reader", reader, READERS))
    root = os.path.expanduser(root)
    if root.startswith("hfds/") and reader in ("auto", "hfds"):
        reader, root = "hfds", root.removeprefix("hfds/")
    labels = None if class_map is None else load_class_map(class_map, root)
    if reader == "hfds":
        if annotations is not None:
            raise ValueError("`annotations` is for folders of images, not for a Hugging Face data set.")
        return HuggingFaceSource(root, split or "train", labels, reader_options)
    if reader_options:
        raise ValueError(f"reader_options ({', '.join(reader_options)}) are for Hugging Face data sets only.")

    place = Path(root)
    if split is not None:
        if place.is_file():
            raise ValueError(f"{place} is one tar file: it has no split {split!r}. Name the split's own file as root.")
        tar_file = place / f"{split}.tar"
        place = (
            tar_file if reader != "folder" and tar_file.is_file() and not (place / split).is_dir() else place / split
        )
    if annotations is not None:
        if reader == "tar":
            raise ValueError("`annotations` is for folders of images, not for tar files.")
        return ListSource(str(place), annotations, labels)
    if reader == "auto":
        tar = place.is_file() or (place.is_dir() and any(place.glob("*.tar")) and not _has_folders(place))
        reader = "tar" if tar else "folder"
    return TarSource(str(place), labels) if reader == "tar" else FolderSource(str(place), labels)


def _has_folders(place: Path) -> bool:
    """Tells whether a folder holds folders."""
    with os.scandir(place) as entries:
        return any(entry.is_dir() for entry in entries)


def folder_class_names(root: str, split: str | None = None, reader: str = "auto") -> tuple[str, ...] | None:
    """Lists the classes of a data set that has one folder of images per class, without looking for the images.

    Args:
        root: See `build_source`.
        split: See `build_source`.
        reader: See `build_source`.

    Returns:
        Class names by label; None for other layouts, and for nested folders, of which only the images tell which ones
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
