"""create_model(pretrained=True): from whichever of a configuration's sources can be reached."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attnzoo import create_model, get_pretrained_cfg
from attnzoo.zoo.weights import ChecksumError, DownloadError, WeightsMismatchError

from .local_server import Served, Server
from .small_models import official_names, same_weights, small


def file_of(model: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(official_names(model.state_dict()), buffer)
    return buffer.getvalue()


def test_weights_from_a_url_are_verified_and_adapted(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    other = small(seed=1, num_classes=1000)
    content = file_of(other)
    url = server.serve("/nat_mini.pth", served := Served(content))
    overlay = {"url": url, "hf_hub_id": None, "sha256": hashlib.sha256(content).hexdigest()}
    model = small(num_classes=7, in_chans=1, pretrained=True, pretrained_cfg_overlay=overlay)
    assert same_weights(model, other, but=r"^head\.|^stem\.convs\.0\.weight")
    assert (model.load_report.head_classes, model.load_report.in_chans) == ((1000, 7), (3, 1))
    assert "7" in caplog.text
    assert url in caplog.text
    whole = small(num_classes=None, pretrained=True, pretrained_cfg_overlay=overlay)
    assert same_weights(whole, other)
    assert len(served.requests) == 1


def test_a_published_checksum_does_not_apply_to_another_url(server: Server) -> None:
    url = server.serve("/a.pth", Served(file_of(small(seed=1, num_classes=1000))))
    cfg = {"url": url, "sha256": "0" * 64}
    with pytest.raises(ChecksumError):
        small(pretrained=True, pretrained_cfg=cfg)
    small(pretrained=True, pretrained_cfg=cfg, pretrained_cfg_overlay={"url": url + "?again"})


def test_the_hub_is_used_if_the_url_fails(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    other = small(seed=1, num_classes=1000)
    save_file(official_names(other.state_dict()), tmp_path / "a")
    headers = {"X-Repo-Commit": "1" * 40}
    server.serve("/o/n/resolve/main/model.safetensors", Served((tmp_path / "a").read_bytes(), headers=headers))
    cfg = {"url": server.address + "/gone.pth", "hf_hub_id": "o/n"}
    model = small(num_classes=None, pretrained=True, pretrained_cfg=cfg, cache_dir=tmp_path)
    assert same_weights(model, other)
    assert "Trying the copy on the Hugging Face hub" in caplog.text


def test_offline_explains_every_manual_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    cfg = get_pretrained_cfg("nat_mini")
    with pytest.raises(DownloadError) as error:
        small(pretrained=True, cache_dir=tmp_path)
    assert cfg.url is not None
    assert cfg.url in str(error.value)
    assert str(tmp_path / "nat_mini.pth") in str(error.value)
    assert str(tmp_path / "hf-hub" / "shi-labs" / "nat-mini-in1k-224" / "model.safetensors") in str(error.value)
    torch.save(small(seed=1, num_classes=1000).state_dict(), tmp_path / "nat_mini.pth")
    assert same_weights(small(num_classes=None, pretrained=True, cache_dir=tmp_path), small(seed=1, num_classes=1000))


def test_weights_in_memory_and_local_files_take_precedence(tmp_path: Path) -> None:
    one, two = small(seed=1), small(seed=2)
    torch.save(one.state_dict(), tmp_path / "one.pth")
    overlay: dict[str, Any] = {"file": tmp_path / "one.pth"}
    assert same_weights(small(pretrained=True, pretrained_cfg_overlay=overlay), one)
    overlay["state_dict"] = official_names(two.state_dict())
    assert same_weights(small(pretrained=True, pretrained_cfg_overlay=overlay), two)


def test_untested_urls_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not get_pretrained_cfg("nat_mini").verified
    torch.save(small(seed=1).state_dict(), tmp_path / "nat_mini.pth")
    with caplog.at_level(logging.WARNING, "attnzoo"):
        small(pretrained=True, cache_dir=tmp_path)
    assert "has not been tested" in caplog.text
    caplog.clear()
    small(pretrained=True, cache_dir=tmp_path, pretrained_cfg_overlay={"broken": True})
    assert "users report that it no longer works" in caplog.text
    caplog.clear()
    small(pretrained=True, cache_dir=tmp_path, pretrained_cfg_overlay={"verified": True})
    assert "nat_mini" not in caplog.text


def test_published_weights_that_do_not_fit_are_rejected(tmp_path: Path) -> None:
    torch.save(small(seed=1).state_dict(), tmp_path / "nat_mini.pth")
    with pytest.raises(WeightsMismatchError, match="built with other sizes"):
        small(pretrained=True, cache_dir=tmp_path, mlp_ratio=1.0)


@pytest.mark.parametrize("architecture", ["nat_mini", "attnzoo_nat_mini"])
def test_a_folder_written_by_timm_is_loaded(tmp_path: Path, architecture: str) -> None:
    other = small(seed=1)
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    arguments = {"depths": [1, 1, 1, 1], "embed_dims": [8, 8, 16, 16], "num_heads": [1, 1, 1, 1], "kernel_size": 3}
    config = {
        "architecture": architecture,
        "num_classes": 5,
        "model_args": arguments,
        "pretrained_cfg": {"tag": "mine", "mean": [0.5, 0.5, 0.5], "label_names": ["a"], "unheard_of": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    model: Any = create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert same_weights(model, other)
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert model.pretrained_cfg["first_conv"] == "stem.convs.0"
    assert not same_weights(create_model(f"local-dir:{tmp_path}"), other)
    model = create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=3)
    assert model.load_report.head_classes == (5, 3)
