"""Reads the two formats of `torch.save`, zip archives and the pickles before torch 1.6, without torch's unpickler."""

from __future__ import annotations

import io
import mmap as memory_map
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError
from .pickled_types import (
    Allowed,
    ArrayTypes,
    Budget,
    PlainTypes,
    Storage,
    StorageType,
    TensorTypes,
    allowed_table,
)
from .unpickling import Unpickler

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_CHUNK_SIZE = 1 << 20  # bytes
_BASE_BUDGET = 64 << 20  # bytes that even a small file may request
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # of a member of a zip archive

_UNSUPPORTED = {
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no values",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a subclass",
}


class _Names:
    """The functions and classes that a pickle may name.

    Args:
        size: Size of the file in bytes, which limits the memory for copies.
        allowed: What the user allows in addition.
    """

    def __init__(self, size: int, allowed: Iterable[Allowed]):
        budget = Budget(3 * size + _BASE_BUDGET)
        extra = allowed_table(allowed)
        own = (TensorTypes(budget).table(), ArrayTypes(budget).table(), PlainTypes(budget).table())
        self.table = {**extra, **own[0], **own[1], **own[2]}
        self.classes = tuple(function.call for function in extra.values() if isinstance(function.call, type))

    def find(self, name: str) -> Any:
        """Returns what a name stands for; raises a CheckpointError if it is not allowed."""
        if name in self.table:
            return self.table[name]
        if name in _UNSUPPORTED:
            raise CheckpointError(f"contains {_UNSUPPORTED[name]}, which is not loaded. Save dense tensors instead")
        raise CheckpointError(
            f"contains {name.removeprefix('builtins.')}, which is not loaded, because a file could run code with it. "
            "None of the file's code was run. If you trust its source, save its tensors alone once: "
            "torch.save(torch.load(path, weights_only=False)['state_dict'], new_path)"
        )


def _parse_storage_id(identity: tuple[Any, ...], length: int) -> tuple[torch.dtype, str, int]:
    """Returns the type, the key and the number of elements in the persistent id of a storage."""
    if len(identity) != length or identity[0] not in ("storage", b"storage"):
        raise CheckpointError("refers to something outside of its pickle that is not a storage")
    kind, key, _, count = identity[1:5]
    key = str(key) if type(key) is int else key
    if not (isinstance(kind, StorageType) and isinstance(key, str) and type(count) is int and count >= 0):
        raise CheckpointError("refers to a storage without a type, key or number of elements")
    return kind.dtype, key, count


class _ZipFile:
    """A zip archive that `torch.save` wrote.

    Args:
        path: Path of the file.
        file: The open file.
        check: Whether to compare what is read with the checksums in the archive.
        mmap: Whether to map storages from the file instead of reading them.
        names: What the pickle may name.
    """

    def __init__(self, path: Path, file: io.BufferedReader, check: bool, mmap: bool, names: _Names):
        self.file, self.names = file, names
        self.size = os.fstat(file.fileno()).st_size
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
        self.members = {member.filename: member for member in members}
        self._check_members(members, archive.start_dir)
        # torch.serialization.set_crc32_options(False) writes zeros instead of checksums.
        self.check = check and any(member.CRC for member in members)
        roots = [name.removesuffix("/data.pkl") for name in self.members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError("is a zip archive, but not one that torch.save wrote: it has no data.pkl")
        self.root = roots[0]
        if f"{self.root}/constants.pkl" in self.members:
            raise CheckpointError("is a TorchScript archive, which contains code, not a checkpoint")
        self.end_of_data = archive.start_dir
        self.mapped = torch.UntypedStorage.from_file(str(path), False, self.size) if mmap else None
        self.storages: dict[str, torch.UntypedStorage] = {}

    def _check_members(self, members: list[zipfile.ZipInfo], end_of_data: int) -> None:
        if len(self.members) != len(members):
            raise CheckpointError("is damaged: its zip archive has several members of one name")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise CheckpointError(f"has a compressed member, {member.filename!r}, which torch.save never writes")
            if member.flag_bits & 1:
                raise CheckpointError(f"has an encrypted member, {member.filename!r}, which torch.save never writes")
        if sum(member.file_size for member in members) > end_of_data:
            raise CheckpointError("is damaged: the members of its zip archive are larger than the file")

    def load(self) -> Any:
        """Returns the object in the archive."""
        pickle = io.BytesIO(bytes(self._read(f"{self.root}/data.pkl").numpy()))
        order = f"{self.root}/byteorder"
        self.byte_order = bytes(self._read(order).numpy()).decode() if order in self.members else "little"
        if self.byte_order not in ("little", "big"):
            raise CheckpointError(f"has an unknown byte order, {self.byte_order[:20]!r}")
        return Unpickler(self.names.find, self._load_storage, self.names.classes).load(pickle)

    def _load_storage(self, identity: tuple[Any, ...]) -> Storage:
        dtype, key, count = _parse_storage_id(identity, 5)
        name, nbytes = f"{self.root}/data/{key}", count * dtype.itemsize
        if name not in self.members:
            raise CheckpointError(f"is damaged: its zip archive has no member {name!r}")
        if self.members[name].file_size != nbytes:
            raise CheckpointError(
                f"is damaged: storage {key} has {self.members[name].file_size} bytes, but {nbytes} are expected"
            )
        if key not in self.storages:
            offset = self._offset(name)
            if self.mapped is not None and not self.check and offset % 8 == 0 and self.byte_order == sys.byteorder:
                self.storages[key] = self.mapped[offset : offset + nbytes]  # pyright: ignore[reportArgumentType]
            else:
                self.storages[key] = self._read(name).untyped_storage()
                if self.byte_order != sys.byteorder:
                    self.storages[key].byteswap(dtype)
        return Storage(self.storages[key], dtype)

    def _offset(self, name: str) -> int:
        """Returns the position of a member's content."""
        member = self.members[name]
        self.file.seek(member.header_offset)
        header = self.file.read(_LOCAL_HEADER.size)
        signature, *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04" or self.file.read(name_length) != name.encode():
            raise CheckpointError(f"is damaged: {name!r} is not where its zip archive says")
        offset = member.header_offset + len(header) + name_length + extra_length
        if offset + member.file_size > self.end_of_data:
            raise CheckpointError(f"is damaged: {name!r} ends after the end of its zip archive's data")
        return offset

    def _read(self, name: str) -> torch.Tensor:
        """Returns the content of a member, as bytes."""
        member = self.members[name]
        self.file.seek(self._offset(name))
        content = _read_exactly(self.file, member.file_size, checksum := _Checksum() if self.check else None)
        if checksum is not None and checksum.value != member.CRC:
            raise CheckpointError(f"is damaged: {name!r} in it does not match its checksum")
        return content


class _Checksum:
    """The CRC-32 of what was read so far."""

    value = 0


def _read_exactly(file: Any, size: int, checksum: _Checksum | None = None) -> torch.Tensor:
    """Reads a number of bytes that the file is known to have, into a new tensor."""
    content = torch.empty(size, dtype=torch.uint8)
    view = content.numpy().data
    position = 0
    while position < size:
        count = file.readinto(view[position : position + _CHUNK_SIZE])
        if not count:
            raise CheckpointError(f"is truncated or damaged: {size - position} bytes are missing")
        if checksum is not None:
            checksum.value = zlib.crc32(view[position : position + count], checksum.value)
        position += count
    return content


def load_zip(path: Path, allowed: Iterable[Allowed], *, check: bool, mmap: bool = False) -> Any:
    """Reads the zip format of `torch.save`.

    Args:
        path: Path of the file.
        allowed: What its pickle may name in addition.
        check: Whether to compare what is read with the checksums in the archive.
        mmap: Whether to map tensors from the file instead of reading them.

    Raises:
        CheckpointError: The file is not loaded; the message is a predicate without its subject, the path.
        Exception: Any other exception means that the file is damaged.
    """
    with path.open("rb") as file:
        names = _Names(os.fstat(file.fileno()).st_size, allowed)
        return _ZipFile(path, file, check, mmap, names).load()


def load_legacy(path: Path, allowed: Iterable[Allowed]) -> Any:
    """Reads the format that `torch.save` had before torch 1.6: pickles, followed by the content of the storages.

    Raises:
        CheckpointError: See `load_zip`.
        Exception: See `load_zip`.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        names = _Names(size, allowed)
        storages: dict[str, Storage] = {}
        requested = 0

        def load_storage(identity: tuple[Any, ...]) -> Storage:
            nonlocal requested
            dtype, key, count = _parse_storage_id(identity, 6)
            if identity[5] is not None:
                raise CheckpointError("contains a view of a storage, a format of 2017 which is not loaded")
            if key not in storages:
                requested += count * dtype.itemsize
                if requested > size:
                    raise CheckpointError(f"is truncated or damaged: its {size} bytes cannot contain all storages")
                storages[key] = Storage(torch.UntypedStorage(count * dtype.itemsize), dtype)
            if storages[key].untyped.nbytes() != count * dtype.itemsize:
                raise CheckpointError(f"is damaged: storage {key} has two different sizes")
            return Storage(storages[key].untyped, dtype)

        # A map, because reading a number of bytes from it that the file does not have allocates nothing.
        with memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_READ) as content:
            unpickler = Unpickler(names.find, load_storage, names.classes)
            if unpickler.load(content) != _LEGACY_MAGIC:
                raise ValueError("the first pickle is not torch's magic number")
            if Unpickler(names.find, load_storage).load(content) != _LEGACY_VERSION:
                raise ValueError("the version of the format is unknown")
            system = Unpickler(names.find, load_storage).load(content)
            if not isinstance(system, dict) or system.get("little_endian") is False:
                raise CheckpointError("was written on a big-endian machine in torch's old format, which is not loaded")
            result = Unpickler(names.find, load_storage, names.classes).load(content)
            keys = Unpickler(names.find, load_storage).load(content)
            file.seek(content.tell())
        if not isinstance(keys, list) or {str(key) for key in keys} != set(storages):
            raise CheckpointError("is damaged: the list of its storages is wrong")
        for key in keys:
            storage = storages[str(key)]
            count = struct.unpack("<q", file.read(8))[0]
            if count * storage.dtype.itemsize != storage.untyped.nbytes():
                raise CheckpointError(f"is damaged: storage {key} has another size than expected")
            storage.untyped.copy_(_read_exactly(file, storage.untyped.nbytes()).untyped_storage())
        return result
