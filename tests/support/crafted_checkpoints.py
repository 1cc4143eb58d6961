"""Pickles written instruction by instruction, and zip archives around them."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

CORE = np.float64(0).__reduce__()[0].__module__  # "numpy._core.multiarray", or "numpy.core.multiarray" before NumPy 2


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def dtype(code: str) -> bytes:
    """A NumPy type without its state."""
    return call(name("numpy", "dtype"), text(code), b"\x89", b"\x88")


def dtype_state(*sizes: int, order: str = "|") -> bytes:
    """The instruction that sets the state of a NumPy type: item size, alignment and flags."""
    return b"(" + number(3) + text(order) + b"NNN" + b"".join(map(number, sizes)) + b"tb"


def raw_bytes(value: bytes) -> bytes:
    return call(name("_codecs", "encode"), text(value.decode("latin1")), text("latin1"))


def array(shape: tuple[int, ...], array_dtype: bytes, content: bytes, fortran: bool = False) -> bytes:
    empty = call(name(CORE, "_reconstruct"), name("numpy", "ndarray"), b"(" + number(0) + b"t", raw_bytes(b"b"))
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    return empty + b"(" + number(1) + sizes + array_dtype + (b"\x88" if fortran else b"\x89") + content + b"tb"


def scalar(scalar_dtype: bytes, content: bytes) -> bytes:
    return call(name(CORE, "scalar"), scalar_dtype, content)


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def growing_strings() -> bytes:
    """An array whose type grows after the array was built, so that copying it reads outside of its memory."""
    grown = dtype("S8") + dtype_state(8, 1, 0) + b"q\x07"
    return mapping(
        weight=array((2, 2), grown, raw_bytes(b"x" * 32), fortran=True), d=b"h\x07" + dtype_state(2**30, 1, 0)
    )


def write_pickle(path: Path, instructions: bytes) -> Path:
    """Writes a zip archive with a pickle of protocol 2."""
    write_members(path, {"a/data.pkl": b"\x80\x02" + instructions + b".", "a/version": b"3\n"})
    return path


def read_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def write_members(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, value in members.items():
            archive.writestr(member, value)
