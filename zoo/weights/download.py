"""Downloads files into a cache: complete or not at all, resumed after a broken connection, verified, one at a time.

`torch.hub.download_url_to_file` is not used because it deletes what has arrived when a connection breaks, never
retries, and lets several processes download the same file at once. huggingface_hub does better, but for its hub only.

A download is written to `<name>.part`; `<name>.part.json` records which file it is a part of. Once its length and
checksum are verified it is flushed to disk and renamed, so a file with the final name is complete.
`<name>.origin.json` records the URL, because files of different projects can have the same name.

Servers are not trusted to end: a download has a largest size and a smallest speed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..files import sync_folder, write_json
from .cache import cached_path, checkpoints_dir, is_offline, origin_path, read_json
from .checksums import hash_in_name, sha256_of

__all__ = ["ChecksumError", "DownloadError", "cached_path", "checkpoints_dir", "download", "is_offline"]

_logger = logging.getLogger(__name__)

_CHUNK_SIZE = 1 << 18  # bytes
_MAX_SIZE = 16 << 30  # bytes; ten times the largest published backbone
_MIN_SPEED = 1 << 10  # bytes per second, averaged over the next constant
_SPEED_WINDOW = 60.0  # seconds
_MIN_PROGRESS = 1 << 16  # bytes that must arrive before a broken connection does not count as a failed attempt
_RETRY_DELAY = 0.5  # seconds before the first retry; doubled for each further one
_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which a retry makes sense
_WEB_PAGE = "the server returned a web page instead of the file"


class DownloadError(OSError):
    """A file could not be downloaded; the message explains how to put it in place manually."""


class ChecksumError(DownloadError, ValueError):
    """A file differs from the published one."""


def download(
    url: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    filename: str | None = None,
    sha256: str | None = None,
    progress: bool = True,
    attempts: int = 4,
    timeout: float = 30.0,
    max_size: int | None = None,
) -> Path:
    """Downloads a file into the cache, unless it is there already.

    If several processes request the same file, one downloads it and the others wait.

    Args:
        url: An http or https URL.
        cache_dir: Cache folder, see `checkpoints_dir`.
        filename: File name in the cache; by default the last part of the URL's path.
        sha256: The file's checksum, or at least its first 8 hexadecimal digits. By default those at the end of the
            file's name ("resnet50-0676ba61.pth"), if it has any. Cached files are verified, too.
        progress: Whether to show a progress bar.
        attempts: Number of consecutive attempts without any progress before giving up.
        timeout: Longest time to wait for the server's next bytes, in seconds.
        max_size: Largest size of the file in bytes; by default $ATTNZOO_MAX_DOWNLOAD, or 16 GiB.

    Returns:
        The path of the complete file.

    Raises:
        ValueError: The URL is not an http or https URL, `sha256` is not a checksum, or `max_size` is not positive.
        DownloadError: The download failed, the file is too large, or less than 1 KiB per second arrived for a minute.
            What has arrived is kept unless it is too large, and the next call resumes from there.
        ChecksumError: The file differs from the published one. A downloaded file is deleted, a cached one is kept.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is not an http or https URL.")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise ValueError(f"{sha256!r} is not a sha256 checksum: 8 to 64 hexadecimal digits are expected.")
    if sha256 is None:
        sha256 = hash_in_name(unquote(urlsplit(url).path))
    max_size = _default_max_size() if max_size is None else max_size
    if max_size <= 0:
        raise ValueError(f"max_size must be positive, got {max_size}.")
    while not (target := cached_path(url, cache_dir, filename)).exists():
        with _locked(url, target):
            # While waiting for the lock, a file from another URL may have taken the name.
            if not target.exists() and cached_path(url, cache_dir, filename) == target:
                _Download(url, target, sha256, progress, timeout, max_size).run(attempts)
                return target
    if sha256 is not None and not (actual := sha256_of(target)).startswith(sha256.lower()):
        raise ChecksumError(
            f"{str(target)!r} is not the published file: its sha256 is {actual}, expected {sha256}. Delete it to "
            "download it again."
        )
    return target


def _default_max_size() -> int:
    setting = os.environ.get("ATTNZOO_MAX_DOWNLOAD", "").strip()
    if not setting:
        return _MAX_SIZE
    if not setting.isdecimal() or not int(setting):
        raise ValueError(f"The environment variable ATTNZOO_MAX_DOWNLOAD must be a number of bytes, got {setting!r}.")
    return int(setting)


@contextlib.contextmanager
def _locked(url: str, target: Path) -> Iterator[None]:
    """Creates the cache folder and holds the lock of a file in it."""
    if is_offline():
        raise _download_error(url, target, "the network is disabled (ATTNZOO_OFFLINE or HF_HUB_OFFLINE is set)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"Could not create the cache folder {str(target.parent)!r} ({error}). Choose another one with cache_dir= "
            "or the environment variable ATTNZOO_HOME."
        ) from error
    from filelock import FileLock  # a dependency of torch

    with FileLock(_beside(target, ".lock")):
        yield


@dataclass(frozen=True)
class _RemoteFile:
    """What a server reports about a file: enough to decide whether a part of it can be continued."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None

    @classmethod
    def from_headers(cls, url: str, headers: Message, offset: int) -> _RemoteFile:
        """Reads the headers of a response that starts at an offset in the file."""
        length = headers.get("Content-Length")
        size = int(length) + offset if length is not None and length.isdigit() else None
        total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
        return cls(url, headers.get("ETag"), headers.get("Last-Modified"), int(total.group(1)) if total else size)

    @property
    def validator(self) -> str | None:
        """The value for an If-Range header: a strong entity tag, or a date."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def matches(self, other: _RemoteFile) -> bool:
        """Reports whether two descriptions can be of the same file: no value known to both differs."""
        pairs = (
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
            (self.size, other.size),
        )
        return all(one is None or two is None or one == two for one, two in pairs)


class _TransientError(Exception):
    """The connection failed in a way that a retry may overcome."""


class _Download:
    """One download into the cache. The caller holds the lock.

    Args:
        url: URL of the file.
        target: Path to download to.
        sha256: The checksum, or its first digits.
        progress: Whether to show a progress bar.
        timeout: Longest time to wait for the server's next bytes, in seconds.
        max_size: Largest size of the file in bytes.
    """

    def __init__(self, url: str, target: Path, sha256: str | None, progress: bool, timeout: float, max_size: int):
        self.url, self.target, self.sha256 = url, target, sha256
        self.progress, self.timeout, self.max_size = progress, timeout, max_size
        self.part = _beside(target, ".part")
        self.part_info = _beside(target, ".part.json")

    def run(self, attempts: int) -> None:
        """Downloads the file, verifies it and moves it into place."""
        failures, most_bytes = 0, 0
        while True:
            try:
                self._attempt()
                break
            except DownloadError:
                raise
            except (_TransientError, urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                reason, cause = str(getattr(error, "reason", None) or error or type(error).__name__), error
                if isinstance(error, urllib.error.HTTPError):
                    reason = f"the server answered {error.code} ({error.reason})"
                    if error.code not in _TRANSIENT_STATUSES:
                        raise _download_error(self.url, self.target, reason) from error
            except OSError as error:
                raise DownloadError(
                    f"Could not write {str(self.part)!r}: {error}. Choose another folder with cache_dir= or the "
                    "environment variable ATTNZOO_HOME."
                ) from error
            received = self.part.stat().st_size if self.part.exists() else 0
            failures = 1 if received >= most_bytes + _MIN_PROGRESS else failures + 1
            most_bytes = max(most_bytes, received)
            if failures >= attempts:
                if received:
                    reason += f"; the {received} bytes received so far are kept, and the next call resumes from there"
                raise _download_error(self.url, self.target, reason) from cause
            _logger.info("Retrying the download of %s: %s", self.url, reason)
            time.sleep(_RETRY_DELAY * 2 ** (failures - 1))
        self._verify()
        write_json(origin_path(self.target), {"url": self.url})
        os.replace(self.part, self.target)
        sync_folder(self.target.parent)
        self.part_info.unlink(missing_ok=True)

    def _attempt(self) -> None:
        """Downloads the bytes that are missing from the part."""
        offset, known = self._resumable_part()
        headers = {"User-Agent": "attnzoo", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if known is not None and known.validator:
                headers["If-Range"] = known.validator
        try:
            response = urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416 and offset:  # the part is at least as long as the file: start again
                self._discard_part()
                raise _TransientError("the server has no bytes after those received so far") from error
            raise
        with response:
            if response.status != 206:
                offset = 0  # the server sends the complete file: it ignores ranges, or the file has changed
                if response.headers.get_content_type() == "text/html":
                    raise _download_error(self.url, self.target, _WEB_PAGE)
            remote = _RemoteFile.from_headers(self.url, response.headers, offset)
            if response.status == 206:
                start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
                if known is None or start is None or int(start.group(1)) != offset or not known.matches(remote):
                    self._discard_part()
                    raise _TransientError("the server continued with other bytes than requested")
            if remote.size is not None and remote.size > self.max_size:
                raise self._too_large(f"it has {remote.size} bytes")
            write_json(self.part_info, asdict(remote))
            self._write(response, offset, remote.size)

    def _resumable_part(self) -> tuple[int, _RemoteFile | None]:
        """Returns the number of bytes of this very file that are there, and what the server reported about it."""
        if not self.part.exists():
            return 0, None
        try:
            known = _RemoteFile(**read_json(self.part_info))
        except TypeError:
            known = None
        # The part is trusted if a validator, or at least the total length, can be compared.
        if known is None or known.url != self.url or not (known.validator or known.size):
            self._discard_part()
            return 0, None
        return self.part.stat().st_size, known

    def _discard_part(self) -> None:
        self.part.unlink(missing_ok=True)
        self.part_info.unlink(missing_ok=True)

    def _too_large(self, reason: str) -> DownloadError:
        self._discard_part()
        return _download_error(
            self.url,
            self.target,
            f"{reason}, more than the limit of {self.max_size}. Raise it with max_size= or the environment variable "
            "ATTNZOO_MAX_DOWNLOAD if the file is the right one",
        )

    def _write(self, response: Any, offset: int, size: int | None) -> None:
        received = offset
        window_start, window_bytes = time.monotonic(), received
        with self.part.open("ab" if offset else "wb") as file, self._progress_bar(offset, size) as advance:
            try:
                while chunk := self._read(response):
                    received += len(chunk)
                    if received > self.max_size:
                        raise self._too_large(f"the server sent {received} bytes and did not end")
                    file.write(chunk)
                    advance(len(chunk))
                    seconds = time.monotonic() - window_start
                    if seconds >= _SPEED_WINDOW:
                        if received - window_bytes < _MIN_SPEED * seconds:
                            reason = f"only {received - window_bytes} bytes arrived in {seconds:.0f} seconds"
                            raise _download_error(
                                self.url, self.target, f"{reason}; the {received} bytes received so far are kept"
                            )
                        window_start, window_bytes = time.monotonic(), received
            finally:
                file.flush()
                os.fsync(file.fileno())
        if size is not None and received < size:  # http.client does not raise for a response that is too short
            raise _TransientError(f"the connection broke after {received} of {size} bytes")
        if size is not None and received > size:
            self._discard_part()
            raise _TransientError(f"{received} bytes arrived instead of {size}")

    def _read(self, response: Any) -> bytes:
        try:
            return response.read1(_CHUNK_SIZE)  # does not wait until a chunk is full
        except (OSError, HTTPException) as error:  # here an OSError comes from the network, not from the disk
            raise _TransientError(f"the connection broke ({str(error) or type(error).__name__})") from error

    @contextlib.contextmanager
    def _progress_bar(self, offset: int, size: int | None) -> Iterator[Callable[[int], Any]]:
        from tqdm import tqdm

        unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        with tqdm(total=size, initial=offset, desc=self.target.name, disable=not self.progress, **unit) as bar:
            yield bar.update

    def _verify(self) -> None:
        with self.part.open("rb") as file:
            start = file.read(64).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            self._discard_part()
            raise _download_error(self.url, self.target, _WEB_PAGE)
        if self.sha256 is not None and not (actual := sha256_of(self.part)).startswith(self.sha256.lower()):
            self._discard_part()
            in_name = hash_in_name(unquote(urlsplit(self.url).path)) == self.sha256
            raise ChecksumError(
                f"The file downloaded from {self.url} is not the published one: its sha256 is {actual}, expected "
                f"{self.sha256}. It was deleted."
                + (" If the digits in its name are not its checksum, pass sha256=." if in_name else "")
            )


def _download_error(url: str, target: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"Could not download {url}: {reason}.\nDownload it manually, for example with a browser on another machine, "
        f"save it as\n    {target}\nand run the same call again."
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
