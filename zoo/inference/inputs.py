"""What may be given to a predictor: paths, addresses, folders, patterns, images, arrays, tensors, and lists of them.

What is given is turned, lazily, into sources: one image each, with a name, which is read when its turn comes.
"""

from __future__ import annotations

import glob
import io
import os
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from timm.utils.misc import natural_key

from ..data.common.decoding import UNREADABLE, BrokenImageError, decode_rgb, to_rgb
from ..weights.cache import is_offline
from .arrays import image_from_array, image_from_tensor

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What a file's name ends with, in any letter case, to be taken from a folder."""

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""One image, or for a string or path also a folder or a pattern."""

Inputs: TypeAlias = Picture | Iterable[Picture]
"""What a predictor takes."""

_CHUNK = 1 << 16  # bytes


@dataclass(frozen=True)
class Limits:
    """What fetching an image by its address may cost.

    Attributes:
        seconds: the longest that it may take in all.
        megabytes: the largest file.
    """

    seconds: float = 20.0
    megabytes: float = 64.0


@dataclass(frozen=True)
class Source(ABC):
    """One image that was given.

    Attributes:
        name: what messages call it.
        path: the file or the address; None for what was given in memory.
    """

    name: str
    path: str | None

    @abstractmethod
    def read(self) -> Image.Image:
        """Gives the RGB image.

        Raises:
            BrokenImageError: it cannot be read.
        """


class FileSource(Source):
    """An image file.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, path)

    def read(self) -> Image.Image:
        """Decodes the file."""
        try:
            with open(self.name, "rb") as file:
                return decode_rgb(file, self.name)
        except OSError as error:
            raise BrokenImageError.of(self.name, error.strerror or str(error)) from error


@dataclass(frozen=True)
class AddressSource(Source):
    """An image behind an http or https address.

    Attributes:
        limits: of fetching it.
    """

    limits: Limits = field(default_factory=Limits)

    def read(self) -> Image.Image:
        """Fetches and decodes the image."""
        return decode_rgb(io.BytesIO(self._fetch()), self.name)

    def _fetch(self) -> bytes:
        if is_offline():
            raise BrokenImageError.of(self.name, "the network is switched off (ATTNZOO_OFFLINE or HF_HUB_OFFLINE)")
        late = f"it took longer than {self.limits.seconds:g} s"
        most, end = int(self.limits.megabytes * 1e6), time.monotonic() + self.limits.seconds
        request = urllib.request.Request(self.name, headers={"User-Agent": "attnzoo"})
        content = bytearray()
        try:
            with urllib.request.urlopen(request, timeout=self.limits.seconds) as response:
                if response.headers.get_content_type() == "text/html":
                    raise BrokenImageError.of(self.name, "the server answered with a web page instead of an image")
                length = response.headers.get("Content-Length", "")
                # read1 returns what has arrived, so that a server that sends byte after byte is noticed.
                while chunk := response.read1(_CHUNK):
                    content += chunk
                    if len(content) > most:
                        raise BrokenImageError.of(self.name, f"it is larger than {self.limits.megabytes:g} MB")
                    if time.monotonic() > end:
                        raise BrokenImageError.of(self.name, late)
        except BrokenImageError:
            raise
        except urllib.error.HTTPError as error:
            raise BrokenImageError.of(self.name, f"the server answered {error.code} ({error.reason})") from error
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            reason = late if isinstance(cause, TimeoutError) else f"{type(error).__name__}: {cause}"
            raise BrokenImageError.of(self.name, reason) from error
        if length.isdigit() and len(content) < int(length):
            raise BrokenImageError.of(self.name, f"the connection broke after {len(content)} of {length} bytes")
        return bytes(content)


@dataclass(frozen=True)
class MemorySource(Source):
    """An image in memory.

    Attributes:
        image: in any mode; PIL may still have to decode it.
    """

    image: Image.Image

    def read(self) -> Image.Image:
        """Converts the image."""
        try:
            self.image.load()
            return to_rgb(self.image)
        except UNREADABLE as error:
            raise BrokenImageError.of(self.name, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class UnusableSource(Source):
    """An element of a list that names no image.

    Attributes:
        reason: why.
    """

    reason: str

    def read(self) -> Image.Image:
        """Raises the reason.

        Raises:
            BrokenImageError: always.
        """
        raise BrokenImageError(self.reason, self.name, self.reason)


def is_single(inputs: Any) -> bool:
    """Tells whether one image is meant, so that one result is wanted rather than a list.

    Args:
        inputs: what a predictor was given.

    Returns:
        True for the path or address of an image, a PIL image, and an array or tensor of one image; False for a folder,
        a pattern, a batch and everything that holds several.
    """
    if isinstance(inputs, (str, os.PathLike)):
        text = os.fspath(inputs)
        return _is_address(text) or Path(text).expanduser().is_file() or not (_is_folder(text) or _is_pattern(text))
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        return inputs.ndim != 4
    return isinstance(inputs, Image.Image)


def find_sources(inputs: Any, limits: Limits | None = None) -> Iterator[Source]:
    """Turns what a predictor was given into images, one after the other.

    Args:
        inputs: see `Inputs`. Folders are searched through all levels, without hidden ones, for files that end as
            images do; files come in natural order ("2.jpg" before "10.jpg").
        limits: of fetching by address.

    Yields:
        The images; inside a list, what names no image becomes an `UnusableSource`.

    Raises:
        ValueError: something is no image: another type, an array of another shape or range; or, where it was not in a
            list, there is no such file, or no image in the folder.
    """
    limits = limits or Limits()
    if isinstance(inputs, Iterable) and not isinstance(
        inputs, (str, bytes, os.PathLike, Image.Image, np.ndarray, torch.Tensor, dict)
    ):
        for position, element in enumerate(inputs):
            yield from _element(element, f"input {position}", limits)
    else:
        yield from _expand(inputs, "the input", limits)


def count_inputs(inputs: Any) -> int | None:
    """How many images were given, where that can be told without reading: for a progress bar."""
    if isinstance(inputs, (np.ndarray, torch.Tensor)) and inputs.ndim == 4:
        return len(inputs)
    if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)):
        kinds = (str, os.PathLike)
        folders = any(isinstance(element, kinds) and not is_single(element) for element in inputs)
        batches = any(isinstance(element, (np.ndarray, torch.Tensor)) and element.ndim == 4 for element in inputs)
        return None if folders or batches else len(inputs)
    if isinstance(inputs, (str, os.PathLike)) and not is_single(inputs):
        return len(find_files(os.fspath(inputs)))
    return 1 if is_single(inputs) else None


def find_files(place: str) -> list[str]:
    """Lists the image files of a folder or pattern, in natural order.

    Args:
        place: a folder, or a pattern such as "photos/**/*.jpg", in which ** stands for any levels of folders.

    Raises:
        ValueError: there are none.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        found = _images_in(path)
        if not found:
            raise ValueError(f"{place} holds no images; what ends in {', '.join(IMAGE_SUFFIXES)} counts as one.")
        return found
    matches = glob.glob(str(path), recursive=True)
    files = [match for match in matches if os.path.isfile(match)]
    # "*" matches notes and lists, too; but where no file is called as images are, the user knows what they are.
    found = [file for file in files if file.lower().endswith(IMAGE_SUFFIXES)] or files
    if not found:
        what = f"matches {len(matches)} folders, but no file" if matches else "matches no file"
        raise ValueError(f"{place!r} {what}; ** stands for any levels of folders, as in 'photos/**/*.jpg'.")
    return sorted(found, key=natural_key)


def _images_in(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(place, name)
            for name in files
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found, key=natural_key)


def _element(element: Any, name: str, limits: Limits) -> Iterator[Source]:
    """What stands in a list: a path that leads nowhere is a broken image there, not the end of the work."""
    if isinstance(element, (str, os.PathLike)):
        try:
            yield from _expand(element, name, limits)
        except ValueError as error:
            yield UnusableSource(os.fspath(element), os.fspath(element), str(error))
    else:
        yield from _expand(element, name, limits)


def _expand(given: Any, name: str, limits: Limits) -> Iterator[Source]:
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        if _is_address(text):
            yield AddressSource(text, text, limits)
        elif (path := Path(text).expanduser()).is_file():
            yield FileSource(str(path))
        elif _is_folder(text) or _is_pattern(text):
            for found in find_files(text):
                yield FileSource(found)
        else:
            raise ValueError(_nothing_there(text))
    elif isinstance(given, Image.Image):
        path = getattr(given, "filename", "") or None
        yield MemorySource(str(path or name), str(path) if path else None, given)
    elif isinstance(given, torch.Tensor):
        tensors = list(given) if given.ndim == 4 else [given]
        for number, tensor in enumerate(tensors):
            label = f"{name}[{number}]" if given.ndim == 4 else name
            yield MemorySource(label, None, image_from_tensor(tensor, label))
    elif isinstance(given, np.ndarray):
        arrays = list(given) if given.ndim == 4 else [given]
        for number, array in enumerate(arrays):
            label = f"{name}[{number}]" if given.ndim == 4 else name
            yield MemorySource(label, None, image_from_array(array, label))
    else:
        raise ValueError(
            f"{name} is a {type(given).__name__}. A predictor takes paths, folders, patterns, http and https "
            "addresses, PIL images, arrays (height, width, 3), tensors (3, height, width), and lists of these."
        )


def _is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _is_folder(text: str) -> bool:
    return Path(text).expanduser().is_dir()


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text)


def _nothing_there(text: str) -> str:
    from ...names import nearest_names

    if "://" in text:
        return f"{text!r} is not fetched: images come from paths, and from http and https addresses."
    path = Path(text).expanduser()
    message = f"There is no file or folder {text!r}."
    if not path.parent.is_dir():
        return f"{message} There is no folder {str(path.parent)!r} either."
    near = nearest_names(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    return f"{message} Did you mean {' or '.join(repr(str(path.parent / name)) for name in near)}?" if near else message
