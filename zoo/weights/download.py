"""Fetching weight files into a cache: whole or not at all, resumed where a connection broke, checked, one at a time.

A download is written to `<name>.part` beside its place, with `<name>.part.json` saying of which file it is a part. When
its length and checksum are right it is flushed to the disk and renamed, so that a file with the final name is complete.
`<name>.origin.json` keeps the address, because two files of different projects can have one name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..files import sync_folder, write_json

_logger = logging.getLogger(__name__)

_CHUNK = 1 << 18  # bytes
_PAUSE = 0.5  # seconds before the first new attempt; doubled for each further one
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which a second try makes sense


class DownloadError(OSError):
    """A file could not be fetched; the message says how to put it in place by hand."""


class ChecksumError(DownloadError, ValueError):
    """A file is not the one that was published."""


def checkpoints_dir(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Says where downloaded weights are kept.

    Args:
        cache_dir: the folder itself, where the caller chose one.

    Returns:
        `cache_dir`, or `$ATTNZOO_HOME/checkpoints`, or where torch.hub keeps its own
        (`$TORCH_HOME/hub/checkpoints`, by default `~/.cache/torch/hub/checkpoints`).
    """
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    home = os.environ.get("ATTNZOO_HOME")
    if home:
        return Path(home).expanduser() / "checkpoints"
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints"


def is_offline() -> bool:
    """Tells whether the user asked for no network: ATTNZOO_OFFLINE or HF_HUB_OFFLINE is set to something true."""
    return any(
        os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")
        for name in ("ATTNZOO_OFFLINE", "HF_HUB_OFFLINE")
    )


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None, filename: str | None = None) -> Path:
    """Says at which path a downloaded file is, or will be, kept.

    Args:
        url: where it is fetched from.
        cache_dir: see `checkpoints_dir`.
        filename: its name in the cache; the last part of the address by default.

    Returns:
        The path. It is `<name>-<hash of the address>` where the name is taken by a file from another address, and where
        the address ends in no file name.
    """
    folder = checkpoints_dir(cache_dir)
    name = filename or unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.+-]", "_", name)
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    if "." not in name.strip("."):
        return folder / f"{name or 'weights'}-{mark}.pth"
    origin = _read_json(_beside(folder / name, ".origin.json")).get("url")
    if origin in (None, url):
        return folder / name
    stem, dot, suffix = name.partition(".")
    return folder / f"{stem}-{mark}{dot}{suffix}"


def download(
    url: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    filename: str | None = None,
    sha256: str | None = None,
    progress: bool = True,
    attempts: int = 4,
    timeout: float = 30.0,
) -> Path:
    """Fetches a file into the cache, unless it is there.

    Several processes may ask for the same file at once: one fetches, the others wait for it.

    Args:
        url: an http or https address.
        cache_dir: see `checkpoints_dir`.
        filename: its name in the cache; the last part of the address by default.
        sha256: its checksum, or the first 8 or more digits of it, in hexadecimal. A file in the cache is checked, too.
        progress: whether to show a progress bar.
        attempts: how many in a row may bring nothing new before it is given up.
        timeout: how long the server may be silent, in seconds.

    Returns:
        The path of the complete file.

    Raises:
        ValueError: the address is none of http or https, or the checksum is no checksum.
        DownloadError: it could not be fetched; what had arrived is kept and continued by the next call.
        ChecksumError: it is not the file that was published. A downloaded one is not kept; one that lay in the cache
            is not touched.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is not an http or https address.")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise ValueError(f"{sha256!r} is not a sha256 checksum: 8 to 64 hexadecimal digits are expected.")
    target = cached_path(url, cache_dir, filename)
    if not target.exists():
        if is_offline():
            raise DownloadError(
                _by_hand(url, target, "the network is switched off (ATTNZOO_OFFLINE or HF_HUB_OFFLINE)")
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DownloadError(
                f"The cache folder {str(target.parent)!r} cannot be made ({error}); choose another with cache_dir= or "
                "the environment variable ATTNZOO_HOME."
            ) from error
        from filelock import FileLock  # comes with torch

        with FileLock(_beside(target, ".lock")):
            if cached_path(url, cache_dir, filename) != target:  # meanwhile the name went to a file from elsewhere
                return download(
                    url,
                    cache_dir=cache_dir,
                    filename=filename,
                    sha256=sha256,
                    progress=progress,
                    attempts=attempts,
                    timeout=timeout,
                )
            if not target.exists():
                _Download(url, target, sha256, progress, timeout).run(attempts)
                return target
    _check_cached(target, sha256)
    return target


def _check_cached(target: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = _sha256(target)
    if not found.startswith(sha256.lower()):
        raise ChecksumError(
            f"{str(target)!r} is not the published file: its sha256 is {found}, expected {sha256}. Delete it to have "
            "it fetched again."
        )


@dataclass(frozen=True)
class _Remote:
    """What a server says about a file: enough to tell whether a part of it can be continued."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None

    @property
    def validator(self) -> str | None:
        """What an If-Range header may name: a strong entity tag, or a date."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class _Broken(Exception):
    """The connection failed in a way that a second try may overcome."""


class _Download:
    """One file on its way into the cache; the caller holds the lock.

    Args:
        url: where from.
        target: where to.
        sha256: its checksum, or the beginning of it, if known.
        progress: whether to show a progress bar.
        timeout: how long the server may be silent, in seconds.
    """

    def __init__(self, url: str, target: Path, sha256: str | None, progress: bool, timeout: float):
        self.url, self.target, self.sha256 = url, target, sha256
        self.progress, self.timeout = progress, timeout
        self.part = _beside(target, ".part")
        self.notes = _beside(target, ".part.json")

    def run(self, attempts: int) -> None:
        """Fetches, checks and puts in place."""
        failed, most, pause = 0, 0, _PAUSE
        while True:
            try:
                self._fetch()
                break
            except DownloadError:
                raise
            except urllib.error.HTTPError as error:
                reason, broken = f"the server answered {error.code} ({error.reason})", error
                if error.code not in _TRANSIENT:
                    raise DownloadError(_by_hand(self.url, self.target, reason)) from error
            except (_Broken, urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                reason, broken = str(getattr(error, "reason", None) or error or type(error).__name__), error
            except OSError as error:
                raise DownloadError(
                    f"{str(self.part)!r} cannot be written: {error}. Choose another folder with cache_dir= or the "
                    "environment variable ATTNZOO_HOME."
                ) from error
            kept = self.part.stat().st_size if self.part.exists() else 0
            failed = 1 if kept > most else failed + 1
            most = max(most, kept)
            if failed >= attempts:
                rest = f"; the {kept} bytes that arrived are kept and continued by the next call" if kept else ""
                raise DownloadError(_by_hand(self.url, self.target, reason + rest)) from broken
            _logger.info("Trying again to fetch %s: %s", self.url, reason)
            time.sleep(pause if failed > 1 else _PAUSE)
            pause = 2 * pause if failed > 1 else _PAUSE
        self._check()
        write_json(_beside(self.target, ".origin.json"), {"url": self.url})
        os.replace(self.part, self.target)
        sync_folder(self.target.parent)
        self.notes.unlink(missing_ok=True)

    def _fetch(self) -> None:
        """Fetches what is missing of the part."""
        have, known = self._resumable()
        headers = {"User-Agent": "attnzoo", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if known is not None and known.validator:
                headers["If-Range"] = known.validator
        try:
            response = urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # the part is as long as the file, or longer: begin again
                self._forget()
                raise _Broken("the server has nothing behind what had arrived") from error
            raise
        with response:
            remote = self._describe(response.headers, have if response.status == 206 else 0)
            if response.status == 206 and not self._continues(response.headers, have, known, remote):
                self._forget()
                raise _Broken("the server continued with another part than asked for")
            if response.status != 206:
                have = 0  # the whole file comes: no ranges, or the file changed since
                if response.headers.get_content_type() == "text/html":
                    raise DownloadError(
                        _by_hand(self.url, self.target, "the server answered with a web page instead of the file")
                    )
            write_json(self.notes, asdict(remote))
            self._write(response, have, remote.size)

    def _resumable(self) -> tuple[int, _Remote | None]:
        """Says how many bytes of this very file are there, and what the server said about it."""
        if not self.part.exists():
            return 0, None
        notes = _read_json(self.notes)
        try:
            known = _Remote(**notes)
        except TypeError:
            known = None
        have = self.part.stat().st_size
        # Without a validator the length alone would vouch for it; without both, nothing does.
        if known is None or known.url != self.url or not (known.validator or known.size):
            self._forget()
            return 0, None
        return have, known

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def _describe(self, headers: Message, have: int) -> _Remote:
        length = headers.get("Content-Length")
        size = int(length) + have if length is not None and length.isdigit() else None
        total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
        return _Remote(
            url=self.url,
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
            size=int(total.group(1)) if total else size,
        )

    def _continues(self, headers: Message, have: int, known: _Remote | None, remote: _Remote) -> bool:
        """Tells whether an answer 206 goes on where the part ends, in the same file."""
        start = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
        if known is None or start is None or int(start.group(1)) != have:
            return False
        return all(
            before is None or now is None or before == now
            for before, now in (
                (known.etag, remote.etag),
                (known.last_modified, remote.last_modified),
                (known.size, remote.size),
            )
        )

    def _write(self, response: Any, have: int, size: int | None) -> None:
        with self.part.open("ab" if have else "wb") as file, self._bar(have, size) as advance:
            try:
                while chunk := self._read(response):
                    file.write(chunk)
                    have += len(chunk)
                    advance(len(chunk))
            finally:
                file.flush()
                os.fsync(file.fileno())
        if size is not None and have < size:  # http.client ends a short answer without an exception
            raise _Broken(f"the connection broke after {have} of {size} bytes")
        if size is not None and have > size:
            self._forget()
            raise _Broken(f"{have} bytes arrived instead of {size}")

    def _read(self, response: Any) -> bytes:
        try:
            return response.read(_CHUNK)
        except (OSError, HTTPException) as error:  # an OSError of the network, not of the disk
            raise _Broken(f"the connection broke ({str(error) or type(error).__name__})") from error

    @contextmanager
    def _bar(self, have: int, size: int | None) -> Iterator[Any]:
        from tqdm import tqdm  # comes with huggingface_hub, which comes with timm

        with tqdm(
            total=size,
            initial=have,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            desc=self.target.name,
            disable=not self.progress,
        ) as bar:
            yield bar.update

    def _check(self) -> None:
        with self.part.open("rb") as file:
            start = file.read(64).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            self._forget()
            raise DownloadError(
                _by_hand(self.url, self.target, "the server answered with a web page instead of the file")
            )
        if self.sha256 is None:
            return
        found = _sha256(self.part)
        if not found.startswith(self.sha256.lower()):
            self._forget()
            raise ChecksumError(
                f"What {self.url} sent is not the published file: its sha256 is {found}, expected {self.sha256}. "
                "Nothing was kept."
            )


def _by_hand(url: str, target: Path, reason: str) -> str:
    return (
        f"Could not fetch {url}: {reason}.\nFetch it by hand, for instance with a browser on another machine, and put "
        f"it at\n    {target}\nthen run the same call again."
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
