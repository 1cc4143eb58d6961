"""Digests inside checkpoint files: every byte of a file that attnzoo wrote is verified when it is read.

torch's zip format has a checksum per member, which torch does not compare when it reads, and none for the rest of the
file; safetensors has no checksum at all. Therefore both kinds of files get a sha256 of the complete file:

    torch.save     in the comment at the end of the zip archive: "attnzoo sha256 <64 hexadecimal digits>"
    safetensors    in the header's metadata: {"attnzoo.digest": "attnzoo.sha256:<64 hexadecimal digits>"}

The digest is that of the file with these 64 digits left out (torch.save) or replaced by zeros (safetensors). It stays
with the file when it is copied or renamed, and other programs that read these formats ignore it.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from .errors import CheckpointError

_CHUNK_SIZE = 1 << 20  # bytes
_DIGITS = 64

_ZIP_START = b"PK\x03\x04"
_ZIP_END = b"PK\x05\x06"
_ZIP_END_SIZE = 22  # bytes of the end record, of which the last two are the length of the comment
_COMMENT_PREFIX = b"attnzoo sha256 "
_COMMENT_SIZE = len(_COMMENT_PREFIX) + _DIGITS

# Either marker announces a digest, so that a damaged one is not taken for a file without.
_METADATA_KEY = "attnzoo.digest"
_METADATA_PREFIX = "attnzoo.sha256:"
_METADATA_ENTRY = re.compile(f'"{_METADATA_KEY}":"{_METADATA_PREFIX}([0-9a-f]{{{_DIGITS}}})"'.encode())
MAX_SAFETENSORS_HEADER = 100_000_000
"""Longest header of a safetensors file in bytes, as in the format's reference implementation."""


def save_with_digest(content: Any, file: IO[bytes]) -> None:
    """Writes a checkpoint in torch's zip format, with a digest of the complete file.

    Args:
        content: What `torch.save` writes.
        file: A file that is open for writing, and empty.
    """
    writer = _DigestWriter(file)
    torch.save(content, writer)  # pyright: ignore[reportArgumentType] (torch only calls `write`)
    writer.finish()


def save_safetensors(
    tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, with a digest of the complete file.

    Args:
        tensors: Contiguous tensors by name.
        path: Path of the file.
        metadata: Further metadata.
    """
    from safetensors.torch import save_file

    placeholder = {_METADATA_KEY: _METADATA_PREFIX + "0" * _DIGITS}
    save_file(dict(tensors), path, metadata={**(metadata or {}), **placeholder})
    with open(path, "rb+") as file:
        header = _safetensors_header(file, Path(path))
        found = _METADATA_ENTRY.search(header)
        assert found is not None
        file.seek(0)
        digits = _hash_stream(file, hashlib.sha256()).hexdigest()
        file.seek(8 + found.start(1))
        file.write(digits.encode())


def verify_digest(path: str | os.PathLike[str]) -> bool:
    """Compares a checkpoint file with the digest that it contains.

    Returns:
        Whether the file contains a digest. Files that other programs wrote do not, nor do those of older versions.

    Raises:
        CheckpointError: The file differs from its digest, or is truncated.
        OSError: The file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        if start.startswith(_ZIP_START):
            found = _zip_digest(file, path, size)
        elif start[8:9] == b"{":
            found = _safetensors_digest(file, path)
        else:
            return False
    if found is None:
        return False
    expected, actual = found
    if actual != expected:
        raise CheckpointError(
            f"{path} is damaged: it does not match its checksum. Its sha256 is {actual}, and was {expected} when it "
            "was written. Use another copy of it."
        )
    return True


class _DigestWriter:
    """Passes on what is written, and adds a comment with its digest to the zip archive at the end.

    Hashing what torch writes, instead of what is on the disk afterwards, finds errors of writing, too.
    """

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.digest = hashlib.sha256()
        self.held_back = b""  # what may be the end record, in which the length of the comment changes

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= _ZIP_END_SIZE:
            self._write(self.held_back)
            self._write(view[:-_ZIP_END_SIZE])
            self.held_back = bytes(view[-_ZIP_END_SIZE:])
        else:
            joined = self.held_back + bytes(view)
            self._write(joined[:-_ZIP_END_SIZE])
            self.held_back = joined[-_ZIP_END_SIZE:]
        return len(view)

    def flush(self) -> None:
        self.file.flush()

    def finish(self) -> None:
        assert self.held_back.startswith(_ZIP_END), "torch.save did not write a zip archive"
        self._write(self.held_back[:-2] + struct.pack("<H", _COMMENT_SIZE) + _COMMENT_PREFIX)
        self.file.write(self.digest.hexdigest().encode())

    def _write(self, data: Any) -> None:
        self.digest.update(data)
        self.file.write(data)


def _zip_digest(file: IO[bytes], path: Path, size: int) -> tuple[str, str] | None:
    """Returns the digest in a zip archive and the actual one; None if it contains none."""
    length = _ZIP_END_SIZE + _COMMENT_SIZE
    file.seek(max(0, size - length))
    end = file.read(length)
    if end[-_ZIP_END_SIZE:].startswith(_ZIP_END):
        return None
    if not (end.startswith(_ZIP_END) and end[_ZIP_END_SIZE:].startswith(_COMMENT_PREFIX)):
        raise CheckpointError(
            f"{path} is truncated or damaged: its {size} bytes do not end as those of a file that torch.save wrote."
        )
    file.seek(0)
    digest = _hash_stream(file, hashlib.sha256(), size - _DIGITS)
    return end[-_DIGITS:].decode("ascii", "replace"), digest.hexdigest()


def _safetensors_header(file: IO[bytes], path: Path) -> bytes:
    """Returns the JSON header of a safetensors file."""
    file.seek(0)
    length = struct.unpack("<Q", file.read(8))[0]
    size = os.fstat(file.fileno()).st_size
    if length > min(size - 8, MAX_SAFETENSORS_HEADER):
        raise CheckpointError(
            f"{path} is truncated or damaged: it has {size} bytes, and its header should have {length}."
        )
    return file.read(length)


def _safetensors_digest(file: IO[bytes], path: Path) -> tuple[str, str] | None:
    """Returns the digest in a safetensors file and the actual one; None if it contains none."""
    header = _safetensors_header(file, path)
    found = _METADATA_ENTRY.search(header)
    if found is None:
        if _METADATA_KEY.encode() in header or _METADATA_PREFIX.encode() in header:
            raise CheckpointError(f"{path} is damaged: the digest in its header cannot be read.")
        return None
    digest = hashlib.sha256(struct.pack("<Q", len(header)))
    digest.update(header[: found.start(1)] + b"0" * _DIGITS + header[found.end(1) :])
    return found.group(1).decode(), _hash_stream(file, digest).hexdigest()


def _hash_stream(file: IO[bytes], digest: Any, length: int | None = None) -> Any:
    """Adds the rest of a file, or its next bytes, to a digest."""
    remaining = -1 if length is None else length
    while remaining and (chunk := file.read(_CHUNK_SIZE if remaining < 0 else min(_CHUNK_SIZE, remaining))):
        digest.update(chunk)
        remaining -= len(chunk) if remaining > 0 else 0
    return digest
