"""Decodes image files to RGB, and reports unreadable ones."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, MemoryError)
"""What PIL raises for files that are truncated, damaged or not images: mostly OSError. Its PNG and TIFF readers also
raise SyntaxError, ValueError and the errors of the modules that they use."""


class BrokenImageError(ValueError):
    """An image file cannot be read.

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


@contextlib.contextmanager
def reading_image(path: str) -> Iterator[None]:
    """Raises a BrokenImageError for whatever PIL or the file system raises inside the block.

    Args:
        path: Path of the file that is read inside the block.
    """
    try:
        yield
    except BrokenImageError:
        raise
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise BrokenImageError.of(path, f"{type(error).__name__}: {error}") from error


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
        BrokenImageError: If the file is truncated, damaged or not an image.
    """
    with reading_image(path), Image.open(file) as image:
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
