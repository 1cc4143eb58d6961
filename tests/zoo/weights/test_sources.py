"""Weight files are found from paths, folders and URLs; config.json is read next to them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from attnzoo.zoo.weights import ChecksumError, fetch, sources
from attnzoo.zoo.weights.hub import HubRepository
from attnzoo.zoo.weights.sources import read_model_config, split_source


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("hf-hub:owner/name", ("hf-hub", "owner/name")),
        ("hf_hub:owner/name", ("hf-hub", "owner/name")),
        ("local-dir:some/folder", ("local-dir", "some/folder")),
        ("https://example.org/a.pth", ("url", "https://example.org/a.pth")),
        ("file:///tmp/a.pth", ("path", "/tmp/a.pth")),
        ("weights/a.pth", ("path", "weights/a.pth")),
        ("C:\\weights\\a.pth", ("path", "C:\\weights\\a.pth")),
    ],
)
def test_sources_are_split_into_kind_and_remainder(source: str, parts: tuple[str, str]) -> None:
    assert split_source(source) == parts


def test_other_schemes_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"'s3://bucket/a\.pth' is not supported"):
        fetch("s3://bucket/a.pth")


def test_a_path_and_a_folder_resolve_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "epoch_3.pth").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"2")
    assert fetch(tmp_path / "epoch_3.pth") == tmp_path / "epoch_3.pth"
    assert fetch(str(tmp_path)) == tmp_path / "epoch_3.pth"
    (tmp_path / "epoch_4.pth").write_bytes(b"1")
    with pytest.raises(FileNotFoundError, match=r"not clear which file.*epoch_3\.pth, epoch_4\.pth"):
        fetch(f"local-dir:{tmp_path}")
    assert fetch(f"local-dir:{tmp_path}", filename="epoch_4.pth") == tmp_path / "epoch_4.pth"
    (tmp_path / "model.safetensors").write_bytes(b"3")
    assert fetch(f"local-dir:{tmp_path}") == tmp_path / "model.safetensors"


def test_a_missing_path_suggests_similar_names(tmp_path: Path) -> None:
    (tmp_path / "epoch_30.pth").write_bytes(b"1")
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*epoch_30\.pth'"):
        fetch(tmp_path / "epoch30.pth")
    with pytest.raises(FileNotFoundError, match=r"no folder .* either"):
        fetch(tmp_path / "wrok" / "epoch_30.pth")
    with pytest.raises(FileNotFoundError, match="no folder"):
        fetch(f"local-dir:{tmp_path / 'wrok'}")


def test_the_config_next_to_weights_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "nat_mini", "num_classes": 5}))
    assert read_model_config(f"local-dir:{tmp_path}")["architecture"] == "nat_mini"


@pytest.mark.parametrize(
    ("text", "says"), [("[]", "no key 'architecture'"), ("{", "is not valid JSON"), (None, "no file")]
)
def test_a_config_without_an_architecture_is_an_error(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        read_model_config(f"local-dir:{tmp_path}")


def test_the_old_name_of_a_repository_warns() -> None:
    with pytest.warns(DeprecationWarning, match="HubRepository"):
        assert sources.HubName is HubRepository


def test_checksums_of_local_files_are_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sha256 = hashlib.sha256(b"weights").hexdigest()
    named, wrong = tmp_path / f"a-{sha256[:8]}.pth", tmp_path / "a-0123abcd.pth"
    for path in (named, wrong):
        path.write_bytes(b"weights")
        assert fetch(path, sha256=sha256) == path
        with pytest.raises(ChecksumError, match="is not the published file"):
            fetch(path, sha256="0" * 64)
    assert fetch(named) == named
    assert not caplog.records
    assert fetch(wrong) == wrong
    assert f"its sha256 starts with {sha256[:8]}, but its name ends with 0123abcd" in caplog.text
