"""Weights come from paths, addresses, folders and the Hugging Face hub, here one that runs on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import huggingface_hub
import pytest

from attnzoo.zoo.weights import DownloadError, fetch
from attnzoo.zoo.weights.sources import HubName, read_model_config, split_source

from .local_server import Served, Server


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
def test_sources_are_told_apart(source: str, parts: tuple[str, str]) -> None:
    assert split_source(source) == parts


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'s3://bucket/a\.pth' is not fetched"):
        fetch("s3://bucket/a.pth")


def test_a_path_and_a_folder_give_their_file(tmp_path: Path) -> None:
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


def test_a_missing_path_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "epoch_30.pth").write_bytes(b"1")
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*epoch_30\.pth'"):
        fetch(tmp_path / "epoch30.pth")
    with pytest.raises(FileNotFoundError, match=r"no folder .* either"):
        fetch(tmp_path / "wrok" / "epoch_30.pth")
    with pytest.raises(FileNotFoundError, match="no folder"):
        fetch(f"local-dir:{tmp_path / 'wrok'}")


@pytest.mark.parametrize("name", ["name", "owner/", "a/b/c", ""])
def test_a_name_that_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="'hf-hub:owner/name' is expected"):
        fetch(f"hf-hub:{name}")


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    return server


def serve_on_hub(hub: Server, filename: str, content: bytes, revision: str = "main") -> None:
    hub.serve(
        f"/owner/name/resolve/{revision}/{filename}",
        Served(content, etag=f'"{filename}-etag"', headers={"X-Repo-Commit": "1" * 40}),
    )


def test_the_first_usual_file_of_a_repository_is_fetched_once(hub: Server, tmp_path: Path) -> None:
    serve_on_hub(hub, "pytorch_model.bin", b"pickle")
    path = fetch("hf-hub:owner/name", cache_dir=tmp_path, progress=False)
    assert path.read_bytes() == b"pickle"
    serve_on_hub(hub, "model.safetensors", b"safe")
    assert fetch("hf-hub:owner/name", cache_dir=tmp_path, progress=False).read_bytes() == b"safe"


def test_a_file_and_a_revision_can_be_named(hub: Server, tmp_path: Path) -> None:
    serve_on_hub(hub, "ema.bin", b"averaged", revision="v2")
    path = fetch("hf-hub:owner/name@v2", filename="ema.bin", cache_dir=tmp_path, progress=False)
    assert path.read_bytes() == b"averaged"


def test_a_repository_without_weights_is_named(hub: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"holds none of model\.safetensors, .*filename="):
        fetch("hf-hub:owner/name", cache_dir=tmp_path)


def test_offline_the_cache_is_used_and_else_it_is_said_what_to_do(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_on_hub(hub, "pytorch_model.bin", b"pickle")
    fetch("hf-hub:owner/name", cache_dir=tmp_path, progress=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch("hf-hub:owner/name", cache_dir=tmp_path).read_bytes() == b"pickle"
    with pytest.raises(DownloadError, match="the network is switched off") as error:
        fetch("hf-hub:owner/name", cache_dir=tmp_path / "other")
    place = HubName("owner/name").by_hand("model.safetensors", tmp_path / "other")
    assert str(place) in str(error.value)
    assert f"{hub.address}/owner/name/resolve/main/model.safetensors" in str(error.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    assert fetch("hf-hub:owner/name", cache_dir=tmp_path / "other").read_bytes() == b"by hand"


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits between its attempts
    asked = []
    ask = huggingface_hub.hf_hub_download
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *args, **kwargs: asked.append(args) or ask(*args, **kwargs)
    )
    with pytest.raises(DownloadError, match="the hub cannot be reached") as error:
        fetch("hf-hub:owner/name", cache_dir=tmp_path)
    assert str(HubName("owner/name").by_hand("model.safetensors", tmp_path)) in str(error.value)
    assert asked == [("owner/name", "model.safetensors")]  # a second name would not be reached either


def test_the_config_beside_weights_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "nat_mini", "num_classes": 5}))
    assert read_model_config(f"local-dir:{tmp_path}")["architecture"] == "nat_mini"


@pytest.mark.parametrize(("text", "says"), [("[]", "no key 'architecture'"), ("{", "is not JSON"), (None, "no file")])
def test_a_config_that_names_no_model_is_an_error(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        read_model_config(f"local-dir:{tmp_path}")
