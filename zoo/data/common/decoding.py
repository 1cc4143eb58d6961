"""Decodes image files to RGB, and tells broken files from failures of the machine."""

from __future__ import annotations

import contextlib
import errno
import io
import time
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

import numpy as np
from PIL import Image

Result = TypeVar("Result")

_NOT_DECODED = frozenset(("BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"))
"""Formats that PIL registers but does not decode to one image by itself: videos, documents that other programs render,
and scientific containers for which it has no decoder."""

_FILE_ERRORS = frozenset(
    (None, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR)
)
"""Numbers of the OSErrors that are due to the file: it is missing, or its content is damaged. PIL's own errors have no
number, and seeking to an offset that a damaged header names is an invalid argument."""

_TRANSIENT = frozenset((errno.EIO, errno.ESTALE))
"""Numbers of the OSErrors that network file systems recover from."""

RETRY_SECONDS = (0.1, 1.0)
"""Waiting times before a file is read again after a transient error."""

MAX_FILE_BYTES = 2**31
"""Largest file that is read into memory. Images of more than twice `Image.MAX_IMAGE_PIXELS`, 179 million pixels, are
refused by PIL before it decodes them."""


class BrokenImageError(ValueError):
    """An image file cannot be read because of its content, or because it does not exist.

    Args:
        message: The full message. (A DataLoader raises a worker's error again in the main process, with a message
            alone.)
        path: Path of the file, as its data set names it.
        reason: What the decoder reported.
    """

    def __init__(self, message: str, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason

    @classmethod
    def of(cls, path: str, reason: str) -> BrokenImageError:
        """Builds the error from a path and what the decoder reported."""
        return cls(f"The image {path} cannot be read: {reason}.", path, reason)


def image_formats() -> list[str]:
    """Returns the formats that PIL decodes itself, including those of plug-ins, in the order in which it tries them."""
    Image.init()
    return [name for name in Image.ID if name not in _NOT_DECODED]


@contextlib.contextmanager
def reading_image(path: str) -> Iterator[None]:
    """Tells broken images from failures of the machine that occur inside the block.

    Args:
        path: Path of the file that is read inside the block.

    Raises:
        BrokenImageError: If the file is missing or its content cannot be decoded.
        OSError: If the machine failed: too many open files, a full or failing disk, missing permissions. It has the
            path, and a remedy for too many open files.
        MemoryError: If there is not enough memory for the image.
    """
    try:
        yield
    except BrokenImageError:
        raise
    except MemoryError as error:
        raise MemoryError(f"There is not enough memory to read the image {path}.") from error
    except OSError as error:
        if error.errno not in _FILE_ERRORS:
            raise OSError(error.errno, _machine_failure(error), path) from error
        raise BrokenImageError.of(path, f"{type(error).__name__}: {error.strerror or error}") from error
    except Exception as error:  # decoders of damaged files raise whatever their arithmetic runs into
        raise BrokenImageError.of(path, f"{type(error).__name__}: {error}") from error


def _machine_failure(error: OSError) -> str:
    """Returns what failed, with a remedy for too many open files."""
    failure = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{failure} (raise the limit with `ulimit -n 65536`, or lower num_workers of the data loaders)"
    return failure


def read_file(path: str, open_file: Callable[[], IO[bytes]] | None = None) -> io.BytesIO:
    """Reads a file into memory, and again after errors that network file systems recover from.

    Args:
        path: Path of the file.
        open_file: Opens the file if it is not one of the file system.

    Raises:
        BrokenImageError: If the file is missing, or larger than MAX_FILE_BYTES.
        OSError: See `reading_image`.
    """
    return retry_reading(lambda: read_content(open(path, "rb") if open_file is None else open_file(), path), path)


def read_content(file: IO[bytes], path: str) -> io.BytesIO:
    """Reads an open file into memory and closes it.

    Raises:
        BrokenImageError: If the file is larger than MAX_FILE_BYTES.
    """
    with file:
        size = file.seek(0, io.SEEK_END)
        if size > MAX_FILE_BYTES:
            raise BrokenImageError.of(path, f"it has {size} bytes, more than {MAX_FILE_BYTES}")
        file.seek(0)
        return io.BytesIO(file.read())


def retry_reading(read: Callable[[], Result], path: str) -> Result:
    """Calls a function that reads a file, and again after errors that network file systems recover from.

    Args:
        read: The function.
        path: Path of the file, for error messages.

    Raises:
        BrokenImageError: See `reading_image`.
        OSError: See `reading_image`.
    """
    for seconds in (*RETRY_SECONDS, None):
        try:
            with reading_image(path):
                return read()
        except OSError as error:
            if error.errno not in _TRANSIENT or seconds is None:
                raise
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def open_image(file: IO[bytes] | str) -> Image.Image:
    """Opens an image in a format that PIL decodes itself, whatever its name says; use it inside of `reading_image`."""
    try:
        return Image.open(file, formats=image_formats())
    except Image.UnidentifiedImageError as error:
        # PIL's own message has the address of a file in memory.
        raise Image.UnidentifiedImageError("cannot identify the format of an image") from error


def read_size(path: str) -> tuple[int, int]:
    """Reads (height, width) of an image file from its header.

    Raises:
        BrokenImageError: See `reading_image`.
        OSError: See `reading_image`.
    """

    def read() -> tuple[int, int]:
        with open_image(path) as image:
            return image.height, image.width

    return retry_reading(read, path)


def decode_rgb(file: IO[bytes], path: str) -> Image.Image:
    """Decodes an image as timm and torchvision do for ImageNet.

    The format is detected from the content, not from the name (ImageNet has a PNG named .JPEG). CMYK is converted by
    PIL, gray is repeated, transparency is dropped, and 16-bit gray is divided by 256 (PIL would clip it to white). An
    EXIF orientation is not applied: published accuracies were measured without.

    Args:
        file: Open file, at its beginning.
        path: Its path, for the error message.

    Returns:
        The RGB image with 8 bits per channel, fully in memory.

    Raises:
        BrokenImageError: If the file is truncated, damaged or not an image, or has more pixels than PIL allows.
        OSError: See `reading_image`.
    """
    with reading_image(path), open_image(file) as image:
        image.load()
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any PIL mode as `decode_rgb` does.

    Returns:
        The RGB image with 8 bits per channel; always a copy.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
