"""Seeded generators of damaged and hostile checkpoint files."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from attnzoo.zoo.weights.digests import save_with_digest

from .crafted_checkpoints import CORE, array, call, dtype, dtype_state, name, number, raw_bytes, scalar, text

COUNTS = {
    "random": 300,
    "truncated": 450,
    "flipped": 800,
    "flipped pickle": 700,
    "program": 600,
    "dtype": 250,
    "zip": 250,
    "safetensors": 350,
}
"""Number of inputs of each kind."""


def checkpoint() -> dict[str, Any]:
    """Returns what training scripts save: tensors, NumPy values and settings."""
    generator = torch.Generator().manual_seed(0)
    return {
        "state_dict": {
            "weight": torch.randn(4, 4, generator=generator),
            "bias": torch.randn(4, generator=generator).half(),
        },
        "args": Namespace(lr=0.1, name="run", sizes=[1, 2, (3, 4)]),
        "best": np.float64(81.8),
        "mean": np.array([0.4, 0.5, 0.6]),
        "names": np.array(["cat", "dog"]),
        "steps": {0: 2**70, 1: -1.5, "set": {1, 2}},
    }


def base_files() -> dict[str, bytes]:
    """Returns one valid file of each form."""
    files = {}
    for form, options in {
        "zip": {},
        "zip of protocol 4": {"pickle_protocol": 4},
        "legacy": {"_use_new_zipfile_serialization": False},
    }.items():
        buffer = io.BytesIO()
        torch.save(checkpoint(), buffer, **options)
        files[form] = buffer.getvalue()
    buffer = io.BytesIO()
    save_with_digest(checkpoint(), buffer)
    return {**files, "digest": buffer.getvalue(), "safetensors": save(checkpoint()["state_dict"], {"format": "pt"})}


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields the kind and the content of every input."""
    bases = base_files()
    for form, content in bases.items():
        yield f"valid {form}", content
    rng = random.Random(seed)
    makers = {
        "random": _random_bytes,
        "truncated": _truncated,
        "flipped": _flipped,
        "flipped pickle": _flipped_pickle,
        "program": _program,
        "dtype": _dtype,
        "zip": _zip,
        "safetensors": _safetensors,
    }
    for kind, count in COUNTS.items():
        for _ in range(count):
            yield kind, makers[kind](rng, bases)


def _random_bytes(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    start = rng.choice([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", struct.pack("<Q", rng.randrange(200)) + b"{"])
    return start + rng.randbytes(rng.randrange(1, 500))


def _truncated(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    content = rng.choice(list(bases.values()))
    return content[: rng.randrange(len(content))]


def flip(rng: random.Random, content: bytes, count: int) -> bytes:
    changed = bytearray(content)
    for _ in range(count):
        changed[rng.randrange(len(changed))] = rng.choice([rng.randrange(256), 0, 0xFF, 0x7F])
    return bytes(changed)


def _flipped(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    return flip(rng, rng.choice(list(bases.values())), rng.choice([1, 1, 2, 8]))


def zipped(pickled: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, value in (storages or {}).items():
            archive.writestr(f"a/data/{key}", value)
    return buffer.getvalue()


def _flipped_pickle(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    """Changes the pickle inside of an archive, whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(bases[rng.choice(["zip", "zip of protocol 4"])])) as archive:
        members = {member.partition("/")[2]: archive.read(member) for member in archive.namelist()}
    pickled = members["data.pkl"]
    action = rng.randrange(4)
    if action == 0:
        pickled = flip(rng, pickled, rng.choice([1, 2, 4]))
    elif action == 1:  # repeat a part
        start, end = sorted(rng.randrange(len(pickled)) for _ in range(2))
        pickled = pickled[:end] + pickled[start:end] * rng.randrange(1, 4) + pickled[end:]
    elif action == 2:  # leave out a part
        start = rng.randrange(len(pickled))
        pickled = pickled[:start] + pickled[start + rng.randrange(1, 12) :]
    else:  # another instruction
        start = rng.randrange(len(pickled))
        pickled = (
            pickled[:start]
            + rng.choice([b"R", b"b", b"\x81", b"a", b"e", b"s", b"u", b"0", b"Q", b"t", b"."])
            + (pickled[start + rng.randrange(2) :])
        )
    return zipped(pickled, {key[5:]: value for key, value in members.items() if key.startswith("data/")})


NAMES = [
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_qtensor", "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_nested_tensor",
    "torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_device_tensor_from_numpy",
    "torch._tensor _rebuild_from_type_v2", "torch.nn.parameter Parameter", "torch Tensor", "torch Size",
    "torch device", "torch float32", "torch FloatStorage", "torch.storage UntypedStorage",
    "torch.storage _load_from_bytes",
    "numpy dtype", "numpy ndarray", f"{CORE} scalar", f"{CORE} _reconstruct", "numpy.core.numeric _frombuffer",
    "collections OrderedDict", "collections Counter", "argparse Namespace", "yacs.config CfgNode", "_codecs encode",
    "builtins set", "builtins frozenset", "builtins bytearray", "__builtin__ complex", "builtins getattr",
    "builtins eval", "os system", "posix system", "subprocess check_call", "importlib import_module",
    "copyreg _reconstructor",
]  # fmt: skip


def _value(rng: random.Random, depth: int = 0) -> bytes:
    """Returns instructions that push one value."""
    choice = rng.randrange(16 if depth < 4 else 9)
    if choice < 5:
        return [
            b"N",
            number(rng.choice([0, 1, -1, 4, 2**31 - 1])),
            b"\x8a\x08" + rng.choice([b"\xff" * 7 + b"\x7f", b"\x00" * 7 + b"\x40", b"\xff" * 8]),
            text(rng.choice(["storage", "f8", "U1", "latin1", "touch ran", "0", "cpu", "<"])),
            b"G" + struct.pack(">d", rng.choice([0.5, float("nan"), 1e300])),
        ][choice]
    if choice < 7:
        return rng.choice([b")", b"]", b"}", b"\x8f", b"\x88"])
    if choice < 9:
        return name(*rng.choice(NAMES).split(" "))
    if choice < 11:
        return b"(" + b"".join(_value(rng, depth + 1) for _ in range(rng.randrange(6))) + b"t"
    if choice < 13:
        return call(name(*rng.choice(NAMES).split(" ")), *(_value(rng, depth + 1) for _ in range(rng.randrange(5))))
    if choice == 13:
        return name(*rng.choice(NAMES).split(" ")) + b")\x81"
    if choice == 14:
        return _value(rng, depth + 1) + _value(rng, depth + 1) + b"b"
    return storage(rng) if rng.random() < 0.5 else tensor(rng)


def storage(rng: random.Random) -> bytes:
    count = rng.choice([0, 4, 4, 4, 5, -1, 2**31 - 1])
    kind = name("torch", rng.choice(["FloatStorage", "FloatStorage", "HalfStorage", "BoolStorage", "QInt8Storage"]))
    return b"(" + text("storage") + kind + text("0") + text("cpu") + number(count) + b"tQ"


def tensor(rng: random.Random) -> bytes:
    def numbers() -> bytes:
        values = [rng.choice([0, 1, 2, 2, 4, -1, 2**31 - 1]) for _ in range(rng.choice([0, 1, 2, 2, 3, 40]))]
        return b"(" + b"".join(map(number, values)) + b"t"

    sizes = numbers()
    strides = sizes if rng.random() < 0.5 else numbers()
    good = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + number(4) + b"tQ"
    given = good if rng.random() < 0.7 else storage(rng)
    return call(name("torch._utils", "_rebuild_tensor_v2"), given, number(rng.choice([0, 0, 1, -1])), sizes, strides,
                b"\x89", b"}")  # fmt: skip


def _plausible(rng: random.Random) -> bytes:
    """Returns instructions that push a value as real checkpoints contain it, or nearly so."""
    four = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + number(4) + b"tQ"
    size = rng.choice([(4,), (2, 2), (1, 4), (3,), (5,), (0, 7)])
    shape = b"(" + b"".join(map(number, size)) + b"t"
    steps = b"(" + b"".join(number(rng.choice([0, 1, 1, 2])) for _ in size) + b"t"
    rebuilt = call(name("torch._utils", "_rebuild_tensor_v2"), four, number(0), shape, steps, b"\x89", b"}")
    pairs = b"}(" + text("a") + _value(rng, 4) + text(rng.choice(["b", "__class__"])) + rebuilt + b"u"
    return rng.choice(
        [
            rebuilt,
            call(name("torch._utils", "_rebuild_parameter"), rebuilt, b"\x88", b"}"),
            name("argparse", "Namespace") + b")\x81" + pairs + b"b",
            call(name("collections", "OrderedDict")) + pairs + b"b",
            call(name("collections", "OrderedDict")) + b"(" + text("a") + rebuilt + b"u",
            call(name("builtins", "set"), b"](" + number(1) + _value(rng, 4) + b"e"),
            call(name("torch", "Size"), b"](" + number(rng.choice([1, -1])) + b"e"),
            array((2,), dtype("f4") + dtype_state(-1, -1, 0, order="<"), raw_bytes(bytes(rng.choice([8, 7])))),
            scalar(dtype("i8"), raw_bytes(bytes(8))),
            b"](" + _value(rng, 3) + pairs + b"e",
        ]
    )


def _program(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    keys = ("weight", "bias", "other")[: rng.randrange(1, 4)]
    items = b"".join(text(key) + (_plausible(rng) if rng.random() < 0.8 else _value(rng)) for key in keys)
    instructions = b"\x80\x02}(" + items + b"u" + rng.choice([b"."] * 9 + [b"", b"R.", b"b.", b"e."])
    return zipped(instructions, {"0": bytes(16)})


def _dtype(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    """An array or scalar whose type has a hostile state, before or after it was built."""
    code = rng.choice(["f8", "S8", "U2", "S0", "U0", "V8", "O8", "M8", "b1", "f16", "c16", "i4", "S65536", "i3", "<f4"])
    sizes = [rng.choice([-1, 0, 1, 8, 2**30, 2**31 - 1, -(2**31), 3]) for _ in range(rng.choice([2, 3, 3, 3, 8]))]
    state = dtype_state(*sizes, order=rng.choice(["<", ">", "|", "=", "<", "x", ""]))
    typed = dtype(code) + (state if rng.random() < 0.8 else b"") + b"q\x07"
    shape = rng.choice([(1,), (1,), (2,), (2,), (2, 2), (2, 2), (0, 2**31 - 1), (2**31 - 1,), (-1,), (1,) * 40])
    fitting = {"f8": 8, "S8": 8, "U2": 8, "b1": 1, "i4": 4, "<f4": 4, "c16": 16}.get(code, 8)
    length = rng.choice([0, 1, 32] + [fitting * n for n in (1, 1, 2, 4)])
    content = raw_bytes(bytes(rng.choice([0, 1, 255]) if code != "U2" else 0 for _ in range(length)))
    value = array(shape, typed, content, rng.random() < 0.5) if rng.random() < 0.7 else scalar(typed, content)
    later = text("d") + b"h\x07" + (state if rng.random() < 0.5 else b"")
    return zipped(b"\x80\x02}(" + text("weight") + value + later + b"u.")


def _zip(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    content = bytearray(bases["zip"])
    action = rng.randrange(5)
    if action == 0:  # fields of the directory: versions, flags, method, checksums, sizes, lengths, offsets
        entries = [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]
        place = rng.choice(entries) + rng.randrange(4, 46)
        content[place : place + 4] = struct.pack("<I", rng.choice([0, 1, 8, 2**31, 2**32 - 1]))
    elif action == 1:  # fields of a member's own header
        place = rng.choice([i for i in range(len(content)) if content[i : i + 4] == b"PK\x03\x04"])
        content[place + rng.randrange(4, 30)] ^= rng.randrange(1, 256)
    elif action == 2:  # fields of the end record
        content[len(content) - rng.randrange(1, 23)] = rng.randrange(256)
    elif action == 3:  # a small file that expands
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])) as archive:
            archive.writestr(rng.choice(["a/data.pkl", "a/byteorder", "a/data/0"]), bytes(10**7))
            archive.writestr("b/data.pkl", b"\x80\x02}.")
        return buffer.getvalue()
    else:  # something before or after the archive, or twice
        extra = rng.choice([content, rng.randbytes(50), b"PK\x05\x06" + bytes(18)])
        return bytes(content) + bytes(extra) if rng.random() < 0.5 else b"PK\x03\x04" + bytes(extra) + bytes(content)
    return bytes(content)


def _safetensors(rng: random.Random, bases: dict[str, bytes]) -> bytes:
    content = bases["safetensors"]
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    entry = header[rng.choice(["weight", "bias"])]
    huge = [-1, 0, 1, 3, 2**31, 2**63, 2**64, 10**30, 1.5, "4", None, [4], True]
    action = rng.randrange(7)
    if action == 0:
        entry["shape"] = [rng.choice(huge) for _ in range(rng.randrange(4))]
    elif action == 1:
        entry["data_offsets"] = [rng.choice(huge) for _ in range(rng.randrange(4))]
    elif action == 2:
        entry["dtype"] = rng.choice(["F64", "F8_E4M3", "F8_E8M0", "BOOL", "U64", "C64", "f32", "", None, 7, "F4"])
    elif action == 3:
        entry["data_offsets"] = [rng.randrange(80), rng.randrange(80)]
    elif action == 4:
        header["__metadata__"] = rng.choice([None, {}, {"format": 1}, {"a": {"b": "c"}}, [], "attnzoo.digest"])
    elif action == 5:
        header[rng.choice(["x", "", "weight.x", "\ud800"])] = rng.choice(
            [{}, None, {"dtype": "F32", "shape": [0, 2**60, 2**60], "data_offsets": [72, 72]}]
        )
    encoded = json.dumps(header).encode()
    if action == 6:
        encoded = rng.choice([b"[" * 100_000, b'{"a":' * 50_000, encoded[:-1], encoded + b"}", flip(rng, encoded, 1)])
    size = len(encoded) if rng.random() < 0.9 else rng.choice([0, 1, 2**31, 2**63, 2**64 - 1, len(encoded) + 1])
    return struct.pack("<Q", size) + (b"{" + encoded[1:]) + data
