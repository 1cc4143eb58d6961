"""Files come from the Hugging Face hub, here a local one, from its cache, or from a manual download."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub
import pytest

from attnzoo.zoo.weights import DownloadError, fetch
from attnzoo.zoo.weights.hub import HubRepository

from .local_server import Served, Server


@pytest.mark.parametrize("name", ["name", "owner/", "a/b/c", ""])
def test_a_name_of_another_form_is_rejected(name: str) -> None:
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


def test_the_first_usual_file_of_a_repository_is_downloaded(hub: Server, tmp_path: Path) -> None:
    serve_on_hub(hub, "pytorch_model.bin", b"pickle")
    path = fetch("hf-hub:owner/name", cache_dir=tmp_path, progress=False)
    assert path.read_bytes() == b"pickle"
    serve_on_hub(hub, "model.safetensors", b"safe")
    assert fetch("hf-hub:owner/name", cache_dir=tmp_path, progress=False).read_bytes() == b"safe"


def test_a_file_and_a_revision_can_be_chosen(hub: Server, tmp_path: Path) -> None:
    serve_on_hub(hub, "ema.bin", b"averaged", revision="v2")
    path = fetch("hf-hub:owner/name@v2", filename="ema.bin", cache_dir=tmp_path, progress=False)
    assert path.read_bytes() == b"averaged"


def test_a_repository_without_weights_is_an_error(hub: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"has none of the files model\.safetensors, .*filename="):
        fetch("hf-hub:owner/name", cache_dir=tmp_path)


def test_offline_uses_the_cache_or_explains_the_manual_download(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_on_hub(hub, "pytorch_model.bin", b"pickle")
    fetch("hf-hub:owner/name", cache_dir=tmp_path, progress=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch("hf-hub:owner/name", cache_dir=tmp_path).read_bytes() == b"pickle"
    with pytest.raises(DownloadError, match="the network is disabled") as error:
        fetch("hf-hub:owner/name", cache_dir=tmp_path / "other")
    place = HubRepository("owner/name").manual_path("model.safetensors", tmp_path / "other")
    assert str(place) in str(error.value)
    assert f"{hub.address}/owner/name/resolve/main/model.safetensors" in str(error.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"manual")
    assert fetch("hf-hub:owner/name", cache_dir=tmp_path / "other").read_bytes() == b"manual"


def test_an_unreachable_hub_explains_the_manual_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits between its attempts
    asked = []
    ask = huggingface_hub.hf_hub_download
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *args, **kwargs: asked.append(args) or ask(*args, **kwargs)
    )
    with pytest.raises(DownloadError, match="the hub cannot be reached") as error:
        fetch("hf-hub:owner/name", cache_dir=tmp_path)
    assert str(HubRepository("owner/name").manual_path("model.safetensors", tmp_path)) in str(error.value)
    assert asked == [("owner/name", "model.safetensors")]  # a second name would not be reached either
