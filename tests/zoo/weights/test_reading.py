"""Checkpoint files are read without running any code in them."""

from __future__ import annotations

import argparse
import builtins
import datetime
import io
import os
import pickle
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from attnzoo.zoo.weights import CheckpointError, read_checkpoint, safe_load

WEIGHTS = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0])}


def assert_same(loaded: dict) -> None:
    assert list(loaded) == list(WEIGHTS)
    for name, value in WEIGHTS.items():
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["a.pth", "a.pth.tar", "a.bin", "named_wrongly.safetensors"])
def test_both_torch_formats_are_read_under_any_name(tmp_path: Path, zipped: bool, name: str) -> None:
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    content = read_checkpoint(tmp_path / name)
    assert content["epoch"] == 3
    assert_same(content["state_dict"])


def test_safetensors_are_read_under_any_name(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.pth")
    loaded = read_checkpoint(tmp_path / "a.pth")
    assert set(loaded) == set(WEIGHTS)
    torch.testing.assert_close(loaded["fc.weight"], WEIGHTS["fc.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("path", [str, Path])
def test_objects_next_to_tensors_in_official_files_are_read(tmp_path: Path, zipped: bool, path: type) -> None:
    beside = {
        "args": argparse.Namespace(lr=1e-3, nested=argparse.Namespace(model="nat_mini")),
        "best": np.float64(81.8),
        "epoch": np.int64(7),
        "flag": np.bool_(True),
        "dtype": np.dtype("float32"),
        "mean": np.array([0.485, 0.456, 0.406]),
        "names": np.array(["cat", "dog"]),
    }
    torch.save({"model": WEIGHTS, **beside}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    content = read_checkpoint(path(tmp_path / "a.pth"))
    assert content["args"] == beside["args"]
    assert (content["best"], content["epoch"], content["flag"]) == (81.8, 7, True)
    assert content["dtype"] == np.float32
    np.testing.assert_array_equal(content["mean"], beside["mean"])
    assert content["names"].tolist() == ["cat", "dog"]
    assert_same(content["model"])


def renamed_pickle(value: object, new: bytes, old: bytes, path: Path) -> None:
    """Writes torch's legacy format with a module named otherwise, as another version of a library would name it."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    assert old in buffer.getvalue() or new in buffer.getvalue()
    path.write_bytes(buffer.getvalue().replace(old, new))


@pytest.mark.parametrize("module", [b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"])
def test_module_names_of_numpy_1_and_2_are_read(tmp_path: Path, module: bytes) -> None:
    written = np.float64(1.0).__reduce__()[0].__module__.encode()
    renamed_pickle(
        {"acc": np.float64(0.25), "array": np.ones(2)}, module, b"c" + written + b"\n", tmp_path / "numpy.pth"
    )
    assert module in (tmp_path / "numpy.pth").read_bytes()
    content = read_checkpoint(tmp_path / "numpy.pth")
    assert content["acc"] == 0.25
    assert content["array"].tolist() == [1.0, 1.0]


class CfgNode(dict):
    """Pickles as yacs' class does: items, and flags in its attributes."""


def test_settings_of_swin_like_scripts_become_plain_dicts(tmp_path: Path) -> None:
    node = CfgNode(TRAIN=CfgNode(LR=0.1))
    node.__dict__["__immutable__"] = True
    renamed_pickle(
        {"model": WEIGHTS, "config": node},
        b"cyacs.config\nCfgNode\n",
        f"c{CfgNode.__module__}\nCfgNode\n".encode(),
        tmp_path / "swin.pth",
    )
    content = read_checkpoint(tmp_path / "swin.pth")
    assert content["config"] == {"TRAIN": {"LR": 0.1}}
    assert_same(content["model"])


class Malicious:
    """Calls a function when it is unpickled."""

    def __init__(self, function: object, *args: object):
        self.call = (function, args)

    def __reduce__(self) -> tuple:
        return self.call


def attacks(marker: Path) -> dict[str, Malicious]:
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": Malicious(os.system, f"touch {marker}"),
        "eval": Malicious(eval, code),
        "exec": Malicious(exec, code),
        "check_call": Malicious(subprocess.check_call, ["touch", str(marker)]),
        "getattr": Malicious(builtins.getattr, "text", "upper"),
        "__import__": Malicious(__import__, "antigravity"),
    }


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("attack", ["system", "eval", "exec", "check_call", "getattr", "__import__"])
def test_a_malicious_pickle_runs_nothing_and_is_named(tmp_path: Path, form: str, attack: str) -> None:
    marker = tmp_path / "ran"
    content = {"state_dict": WEIGHTS, "hook": attacks(marker)[attack]}
    path = tmp_path / "malicious.pth"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content["hook"], protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match=attack):
        safe_load(path)
    assert not marker.exists()


def test_the_attacks_work_without_protection(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save(attacks(marker)["eval"], tmp_path / "malicious.pth")
    torch.load(tmp_path / "malicious.pth", weights_only=False)
    assert marker.exists()


def test_an_unknown_class_is_an_error_that_names_it(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "when": datetime.timedelta(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"contains datetime\.timedelta, which is not loaded"):
        safe_load(tmp_path / "a.pth")
    assert safe_load(tmp_path / "a.pth", [datetime.timedelta])["when"] == datetime.timedelta(1)


def test_the_process_wide_list_of_allowed_classes_is_unchanged(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace()}, tmp_path / "a.pth")
    before = torch.serialization.get_safe_globals()
    safe_load(tmp_path / "a.pth")
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with torch.serialization.safe_globals([argparse.Namespace]):
        safe_load(tmp_path / "a.pth")
        assert argparse.Namespace in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_reported_as_damaged(tmp_path: Path, form: str, kept: float) -> None:
    path = tmp_path / "a.pth"
    weights = {f"layers.{i}.weight": torch.ones(50) for i in range(50)}
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "zip")
    complete = path.read_bytes()
    path.write_bytes(complete[: int(kept * len(complete))])
    with pytest.raises(CheckpointError, match=r"damaged"):
        safe_load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html><body>Confirm the download</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"epoch,loss\n1,2.0\n", "neither a safetensors file nor one that torch.save wrote"),
    ],
)
def test_other_files_are_recognized_by_their_content(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        safe_load(tmp_path / "a.pth")


def test_the_oldest_tar_format_is_rejected(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(CheckpointError, match="tar archive"):
        safe_load(tmp_path / "old.pth")


def test_a_missing_file_a_folder_and_a_single_tensor_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        safe_load(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        safe_load(tmp_path)
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    with pytest.raises(CheckpointError, match="contains a Tensor, not a dict"):
        read_checkpoint(tmp_path / "tensor.pth")
