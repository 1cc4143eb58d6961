"""Images given to a predictor, each with a name, read or downloaded only when needed."""

from __future__ import annotations

import io
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from http.client import HTTPException

from PIL import Image

from ..data.common.decoding import BrokenImageError, decode_rgb, read_file, reading_image, to_rgb
from ..weights.cache import is_offline

_CHUNK_SIZE = 1 << 16  # bytes


@dataclass(frozen=True)
class DownloadLimits:
    """Limits of downloading an image.

    Attributes:
        seconds: Longest total time.
        megabytes: Largest file size.
    """

    seconds: float = 20.0
    megabytes: float = 64.0


@dataclass(frozen=True)
class Source(ABC):
    """One input image.

    Attributes:
        name: Name for messages.
        path: File name or URL; None for an image in memory.
    """

    name: str
    path: str | None

    @abstractmethod
    def read(self) -> Image.Image:
        """Returns the RGB image.

        Raises:
            BrokenImageError: The image cannot be read.
        """


class FileSource(Source):
    """An image file.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, path)

    def read(self) -> Image.Image:
        """Decodes the file."""
        try:
            return decode_rgb(read_file(self.name), self.name)
        except PermissionError as error:
            raise BrokenImageError.of(self.name, error.strerror or "permission denied") from error


@dataclass(frozen=True)
class URLSource(Source):
    """An image behind an http or https URL.

    Attributes:
        limits: Limits of the download.
    """

    limits: DownloadLimits = field(default_factory=DownloadLimits)

    def read(self) -> Image.Image:
        """Downloads and decodes the image."""
        return decode_rgb(io.BytesIO(self._download()), self.name)

    def _download(self) -> bytes:
        if is_offline():
            raise BrokenImageError.of(self.name, "the network is disabled (ATTNZOO_OFFLINE or HF_HUB_OFFLINE is set)")
        too_slow = f"it took longer than {self.limits.seconds:g} s"
        max_bytes, end = int(self.limits.megabytes * 1e6), time.monotonic() + self.limits.seconds
        request = urllib.request.Request(self.name, headers={"User-Agent": "attnzoo"})
        content = bytearray()
        try:
            with urllib.request.urlopen(request, timeout=self.limits.seconds) as response:
                if response.headers.get_content_type() == "text/html":
                    raise BrokenImageError.of(self.name, "the server returned a web page instead of an image")
                length = response.headers.get("Content-Length", "")
                # read1 returns what has arrived, so that the time limit also stops a server that sends single bytes.
                while chunk := response.read1(_CHUNK_SIZE):
                    content += chunk
                    if len(content) > max_bytes:
                        raise BrokenImageError.of(self.name, f"it is larger than {self.limits.megabytes:g} MB")
                    if time.monotonic() > end:
                        raise BrokenImageError.of(self.name, too_slow)
        except BrokenImageError:
            raise
        except urllib.error.HTTPError as error:
            raise BrokenImageError.of(self.name, f"the server answered {error.code} ({error.reason})") from error
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            reason = too_slow if isinstance(cause, TimeoutError) else f"{type(error).__name__}: {cause}"
            raise BrokenImageError.of(self.name, reason) from error
        if length.isdigit() and len(content) < int(length):
            raise BrokenImageError.of(self.name, f"the connection broke after {len(content)} of {length} bytes")
        return bytes(content)


@dataclass(frozen=True)
class MemorySource(Source):
    """An image in memory.

    Attributes:
        image: Image in any mode, which PIL may not have decoded yet.
    """

    image: Image.Image

    def read(self) -> Image.Image:
        """Converts the image to RGB."""
        with reading_image(self.name):
            self.image.load()
            return to_rgb(self.image)


@dataclass(frozen=True)
class InvalidSource(Source):
    """An element of a list that is not an image.

    Attributes:
        reason: What is wrong with it.
    """

    reason: str

    def read(self) -> Image.Image:
        """Always raises.

        Raises:
            BrokenImageError: The reason.
        """
        raise BrokenImageError(self.reason, self.name, self.reason)
