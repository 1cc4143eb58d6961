"""Where downloaded files are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.weights.cache import cached_path, checkpoints_dir, is_offline, origin_path, read_json


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://example.org/files/nat_mini.pth?download=1"
    assert cached_path(url, tmp_path) == tmp_path / "nat_mini.pth"
    assert cached_path(url) == tmp_path / "home" / "checkpoints" / "nat_mini.pth"
    monkeypatch.delenv("ATTNZOO_HOME")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert checkpoints_dir() == tmp_path / "torch" / "hub" / "checkpoints"


def test_a_url_without_a_file_name_gets_a_unique_one(tmp_path: Path) -> None:
    first, second = (cached_path(f"https://example.org/f/{name}/?dl=1", tmp_path) for name in ("abc", "abd"))
    assert first != second
    assert first.parent == second.parent == tmp_path
    escape = cached_path("https://example.org/..%2F..%2Fetc%2Fpasswd.pth", tmp_path)
    assert escape.parent == tmp_path
    assert cached_path("https://example.org/a.pth", tmp_path, "../../etc/a.pth").parent == tmp_path


def test_a_name_taken_by_another_url_gets_a_hash(tmp_path: Path) -> None:
    origin_path(tmp_path / "a.pth.tar").write_text('{"url": "https://example.org/one/a.pth.tar"}')
    assert cached_path("https://example.org/one/a.pth.tar", tmp_path) == tmp_path / "a.pth.tar"
    other = cached_path("https://example.org/two/a.pth.tar", tmp_path)
    assert other.parent == tmp_path
    assert other.name.startswith("a-")
    assert other.name.endswith(".pth.tar")


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("true", True), ("0", False), (" No ", False), ("", False)]
)
@pytest.mark.parametrize("variable", ["ATTNZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_mode_is_an_environment_variable(
    variable: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert is_offline() == expected


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_a_file_without_a_json_object_counts_as_an_empty_one(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == {}
