"""The formats of torch.save are read as torch reads them, and hostile or damaged files are refused."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attnzoo.zoo.weights import CheckpointError, safe_load
from support.crafted_checkpoints import growing_strings, read_members, write_members, write_pickle

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def content() -> dict[str, Any]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        **{f"dtype {dtype}": torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES},
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "transposed": base.t(),
        "view": base[1:3, ::2],
        "expanded": torch.ones(1).expand(5, 4),
        "parameter": nn.Parameter(torch.ones(2)),
        "state_dict": nn.BatchNorm2d(3).state_dict(),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "milestones": Counter({8: 1, 11: 1}),
        "plain": [
            None,
            True,
            1,
            -(2**70),
            2.5,
            "ä",
            b"bytes",
            bytearray(b"x"),
            {1, 2},
            (1, (2,)),
            1 + 2j,
            {3: {"a": 4}},
        ],
        "torch": [torch.Size([1, 2]), torch.device("cpu"), torch.float16],
        "ordered": OrderedDict(a=1),
    }


def assert_equal(actual: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert (actual.dtype, actual.shape, actual.stride()) == (expected.dtype, expected.shape, expected.stride())
        assert torch.equal(actual.view(expected.dtype), expected)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_equal(actual[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert type(actual) is type(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_equal(one, other)
    else:
        assert actual == expected


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_everything_in_real_checkpoints_equals_what_torch_reads(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path, saved = tmp_path / "a.pth", content()
    if not zipped:  # the old format has no class of storages for these types
        saved = {
            name: value for name, value in saved.items() if not name.startswith(("dtype torch.u", "dtype torch.f"))
        }
    torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    loaded = safe_load(path)
    assert_equal(loaded, torch.load(path, weights_only=False))
    if zipped:
        assert_equal(safe_load(path, mmap=True), loaded)


def test_tensors_that_share_memory_still_do(tmp_path: Path) -> None:
    weight = torch.ones(3)
    torch.save({"one": weight, "two": weight, "part": weight[1:]}, tmp_path / "a.pth")
    loaded = safe_load(tmp_path / "a.pth")
    assert loaded["one"].data_ptr() == loaded["two"].data_ptr()
    loaded["part"].zero_()
    assert loaded["one"].tolist() == [1.0, 0.0, 0.0]


def test_a_file_of_a_big_endian_machine_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.arange(3.0)}, path)
    members = read_members(path)
    members["a/byteorder"] = b"big"
    members["a/data/0"] = np.arange(3, dtype=">f4").tobytes()
    write_members(path, members)
    assert safe_load(path)["a"].tolist() == [0.0, 1.0, 2.0]


def test_hostile_zip_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(100_000)}, path)
    members = read_members(path)
    write_members(path, members, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed member"):
        safe_load(path)
    write_members(path, {**members, "a/data/0": b"short"})
    with pytest.raises(CheckpointError, match="storage 0 has 5 bytes, but 400000 are expected"):
        safe_load(path)
    write_members(path, {name: value for name, value in members.items() if name != "a/data/0"})
    with pytest.raises(CheckpointError, match="no member 'a/data/0'"):
        safe_load(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/data.pkl", b"")
    with pytest.raises(CheckpointError, match="several members of one name"):
        safe_load(path)
    write_members(path, {**members, "a/constants.pkl": b""})
    with pytest.raises(CheckpointError, match="TorchScript"):
        safe_load(path)
    write_members(path, {"readme.txt": b"hello"})
    with pytest.raises(CheckpointError, match=r"no data\.pkl"):
        safe_load(path)


def test_a_zip_member_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(100)}, path)
    damaged = bytearray(path.read_bytes())
    entry = damaged.rindex(b"a/data/0") - 46  # in the central directory
    damaged[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="larger than the file"):
        safe_load(path)


def test_a_changed_value_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.full((10,), 2.0)}, path)
    path.write_bytes(path.read_bytes().replace(struct.pack("<f", 2.0), struct.pack("<f", 4.0), 1))
    with pytest.raises(CheckpointError, match="'a/data/0' in it does not match its checksum"):
        safe_load(path)
    assert safe_load(path, verify=False)["a"][0] == 4.0


def test_files_without_any_checksums_are_accepted(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert safe_load(tmp_path / "a.pth")["a"].tolist() == [1.0] * 3


def test_storages_larger_than_an_old_file_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    pickled = buffer.getvalue()
    count = pickle.dumps((3, None), protocol=2)[2:4]
    assert count == b"K\x03"
    position = pickled.index(count, pickled.index(b"cpuq"))
    huge = b"\x8a\x05" + (10**11).to_bytes(5, "little")
    (tmp_path / "a.pth").write_bytes(pickled[:position] + huge + pickled[position + 2 :])
    with pytest.raises(CheckpointError, match="cannot contain all storages"):
        safe_load(tmp_path / "a.pth")


def test_a_crafted_file_does_not_crash_the_process(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "crafted.pth", growing_strings())
    code = f"""
from torch import nn
from attnzoo.zoo.weights import CheckpointError, load_weights
try:
    load_weights(nn.Linear(2, 2), {str(path)!r})
except CheckpointError as error:
    print("refused:", error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run
    assert "refused" in run.stdout
