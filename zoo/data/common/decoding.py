"""From an image file's bytes to an RGB image."""

from __future__ import annotations

import struct
import zlib
from typing import IO

import numpy as np
from PIL import Image

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, MemoryError)
"""What PIL raises for files that are truncated, no image, or damaged: mostly OSError; its PNG and TIFF readers also
raise SyntaxError, ValueError and the errors of the modules that they use."""


class BrokenImageError(ValueError):
    """An image file cannot be read.

    Args:
        message: the whole message. (A DataLoader raises a worker's error anew in the main process with a message
            alone.)
        path: of the file, as its data set names it.
        reason: what the decoder said.
    """

    def __init__(self, message: str, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason

    @classmethod
    def of(cls, path: str, reason: str) -> BrokenImageError:
        """The error for a file and what the decoder said of it."""
        return cls(f"The image {path} cannot be read: {reason}.", path, reason)


def decode_rgb(file: IO[bytes], path: str) -> Image.Image:
    """Decodes an image as timm and torchvision do for ImageNet.

    The format is found from the content, not from the name (ImageNet has a PNG named .JPEG). CMYK is converted by PIL,
    gray is repeated, transparency is dropped, and 16-bit gray is divided by 256 (PIL would clip it to white). An EXIF
    orientation is not
    applied: published accuracies were measured without.

    Args:
        file: at its beginning.
        path: for the error's message.

    Returns:
        The RGB image, 8 bits a channel, fully in memory.

    Raises:
        BrokenImageError: the file is truncated, damaged or no image.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return to_rgb(image)
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise BrokenImageError.of(path, f"{type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any of PIL's modes as `decode_rgb` does.

    Args:
        image: in any mode.

    Returns:
        The RGB image, 8 bits a channel; a copy, also where it was one already.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
