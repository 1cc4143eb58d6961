"""Finds the images in what a predictor is given: paths, URLs, folders, glob patterns, arrays, tensors and lists."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from timm.utils.misc import natural_key

from ...deprecated_paths import renamed_names
from ..data.common.image_files import EXAMPLE_SUFFIXES, ImageFinder, image_suffixes
from ..weights.sources import missing_path_message
from .arrays import image_from_array, image_from_tensor
from .sources import DownloadLimits, FileSource, InvalidSource, MemorySource, Source, URLSource

_logger = logging.getLogger(__name__)

__getattr__ = renamed_names(
    __name__,
    {"AddressSource": "URLSource", "Limits": "DownloadLimits", "Picture": "Input", "UnusableSource": "InvalidSource"},
)

Input: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""One image; a string or path can also be a folder or a glob pattern."""

Inputs: TypeAlias = Input | Iterable[Input]
"""What a predictor accepts."""


def is_single(inputs: Any) -> bool:
    """Reports whether the input is one image, so that the predictor returns one result instead of a list.

    Args:
        inputs: Input of a predictor.

    Returns:
        True for the path or URL of an image, a PIL image, and an array or tensor of one image. False for a folder, a
        glob pattern, a batch, and everything that contains several.
    """
    if isinstance(inputs, (str, os.PathLike)):
        text = os.fspath(inputs)
        return _is_url(text) or Path(text).expanduser().is_file() or not (_is_folder(text) or glob.has_magic(text))
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        return inputs.ndim != 4
    return isinstance(inputs, Image.Image)


def find_sources(inputs: Any, limits: DownloadLimits | None = None) -> Iterator[Source]:
    """Finds the images in a predictor's input, one after the other.

    Args:
        inputs: See `Inputs`. Folders are searched recursively, except for hidden ones, for files with the suffix of an
            image. Files are in natural order ("2.jpg" before "10.jpg").
        limits: Limits of downloads.

    Yields:
        The images. A path in a list that does not exist becomes an `InvalidSource`.

    Raises:
        ValueError: An input has another type, shape or range than an image; or, outside of a list, the file does not
            exist or the folder has no images.
    """
    limits = limits or DownloadLimits()
    if isinstance(inputs, Iterable) and not isinstance(
        inputs, (str, bytes, os.PathLike, Image.Image, np.ndarray, torch.Tensor, dict)
    ):
        for index, element in enumerate(inputs):
            yield from _expand_element(element, f"input {index}", limits)
    else:
        yield from _expand(inputs, "the input", limits)


def count_inputs(inputs: Any) -> int | None:
    """Counts the images for a progress bar; None if that would require reading the input."""
    if isinstance(inputs, (np.ndarray, torch.Tensor)) and inputs.ndim == 4:
        return len(inputs)
    if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)):
        paths = (str, os.PathLike)
        folders = any(isinstance(element, paths) and not is_single(element) for element in inputs)
        batches = any(isinstance(element, (np.ndarray, torch.Tensor)) and element.ndim == 4 for element in inputs)
        return None if folders or batches else len(inputs)
    if isinstance(inputs, (str, os.PathLike)) and not is_single(inputs):
        return len(find_files(os.fspath(inputs)))
    return 1 if is_single(inputs) else None


def find_files(location: str) -> list[str]:
    """Lists the image files in a folder or of a glob pattern, in natural order.

    Args:
        location: A folder, or a pattern such as "photos/**/*.jpg", in which ** matches any number of folders.

    Raises:
        ValueError: There are none.
    """
    return _find_files(location)[0]


def _find_files(location: str) -> tuple[list[str], str | None]:
    """Returns the files of `find_files`, and a sentence about those in a folder that were left out."""
    path = Path(location).expanduser()
    if path.is_dir():
        finder = ImageFinder()
        found = sorted(finder.find(path), key=natural_key)
        if not found:
            raise ValueError(f"{location} contains no images, such as files ending in {EXAMPLE_SUFFIXES}.")
        return found, finder.summary(location)
    matches = glob.glob(str(path), recursive=True)
    files = [match for match in matches if os.path.isfile(match)]
    # "*" also matches text files. But if no file has the suffix of an image, all are meant to be images.
    suffixes = image_suffixes()
    found = [file for file in files if os.path.splitext(file)[1].lower() in suffixes] or files
    if not found:
        problem = f"matches {len(matches)} folders, but no file" if matches else "matches no file"
        raise ValueError(f"{location!r} {problem}; ** matches any number of folders, as in 'photos/**/*.jpg'.")
    return sorted(found, key=natural_key), None


def _expand_element(element: Any, name: str, limits: DownloadLimits) -> Iterator[Source]:
    """Expands an element of a list, where a path that does not exist counts as a broken image."""
    if isinstance(element, (str, os.PathLike)):
        try:
            yield from _expand(element, name, limits)
        except ValueError as error:
            yield InvalidSource(os.fspath(element), os.fspath(element), str(error))
    else:
        yield from _expand(element, name, limits)


def _expand(given: Any, name: str, limits: DownloadLimits) -> Iterator[Source]:
    if isinstance(given, (str, os.PathLike)):
        yield from _expand_path(os.fspath(given), limits)
    elif isinstance(given, Image.Image):
        path = getattr(given, "filename", "") or None
        yield MemorySource(str(path or name), str(path) if path else None, given)
    elif isinstance(given, (torch.Tensor, np.ndarray)):
        convert: Any = image_from_tensor if isinstance(given, torch.Tensor) else image_from_array
        if given.ndim != 4:
            yield MemorySource(name, None, convert(given, name))
        else:
            for index, image in enumerate(given):
                label = f"{name}[{index}]"
                yield MemorySource(label, None, convert(image, label))
    else:
        raise ValueError(
            f"{name} is a {type(given).__name__}. A predictor accepts paths, folders, glob patterns, http and https "
            "URLs, PIL images, arrays (height, width, 3), tensors (3, height, width), and lists of these."
        )


def _expand_path(text: str, limits: DownloadLimits) -> Iterator[Source]:
    if _is_url(text):
        yield URLSource(text, text, limits)
    elif (path := Path(text).expanduser()).is_file():
        yield FileSource(str(path))
    elif _is_folder(text) or glob.has_magic(text):
        files, left_out = _find_files(text)
        if left_out:
            _logger.warning(left_out)
        for file in files:
            yield FileSource(file)
    elif "://" in text:
        raise ValueError(f"{text!r} is not supported: images come from paths, and from http and https URLs.")
    else:
        raise ValueError(missing_path_message(path, "file or folder"))


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _is_folder(text: str) -> bool:
    return Path(text).expanduser().is_dir()
