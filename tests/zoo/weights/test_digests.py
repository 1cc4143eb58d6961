"""Files that attnzoo writes contain a digest of all their bytes; files of other programs are read without one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from attnzoo.zoo.weights import CheckpointError
from attnzoo.zoo.weights.digests import save_safetensors, save_with_digest, verify_digest

WEIGHTS = {f"layers.{index}.weight": torch.arange(7.0) + index for index in range(3)}


def write(path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_safetensors(WEIGHTS, path, {"format": "pt"})
    else:
        with path.open("wb") as file:
            save_with_digest({"state_dict": WEIGHTS, "epoch": 3}, file)
    return path


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_every_change_of_one_byte_is_found(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert verify_digest(path)
    original = path.read_bytes()
    # The first bytes determine the format; safe_load refuses files whose format it does not recognize.
    for position in range(4 if name == "a.pth" else 9, len(original), 7):
        path.write_bytes(original[:position] + bytes([original[position] ^ 0x10]) + original[position + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            verify_digest(path)


def test_other_programs_read_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth")
    for mmap in (False, True):
        content = torch.load(path, weights_only=True, mmap=mmap)
        assert all(torch.equal(content["state_dict"][name], value) for name, value in WEIGHTS.items())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"attnzoo sha256 ")
    path = write(tmp_path / "a.safetensors")
    assert all(torch.equal(load_file(path)[name], value) for name, value in WEIGHTS.items())
    with safe_open(path, "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_a_digest_survives_a_copy_under_another_name(tmp_path: Path) -> None:
    copy = tmp_path / "other"
    for name in ("a.pth", "a.safetensors"):
        copy.write_bytes(write(tmp_path / name).read_bytes())
        assert verify_digest(copy)


def test_files_of_other_programs_have_no_digest(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "zip.pth")
    torch.save(WEIGHTS, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, tmp_path / "a.safetensors", metadata={"format": "pt"})
    (tmp_path / "empty").write_bytes(b"")
    for name in ("zip.pth", "legacy.pth", "a.safetensors", "empty"):
        assert not verify_digest(tmp_path / name)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_truncated_file_is_damaged(tmp_path: Path, name: str, kept: float) -> None:
    path = write(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="damaged"):
        verify_digest(path)


def test_a_write_that_fails_is_not_hidden() -> None:
    class FullDisk(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError("No space left on device")

    with pytest.raises((OSError, RuntimeError)):
        save_with_digest(WEIGHTS, FullDisk())
