"""Downloads are complete or absent, resumed, verified and made once; errors explain the manual download."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from attnzoo.zoo.weights.download import ChecksumError, DownloadError, cached_path, download

from .local_server import Served, Server

CONTENT = bytes(range(256)) * 4000  # 1 MB, several of the chunks in which it is read
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def fetch(url: str, **kwargs) -> Path:
    return download(url, progress=False, **kwargs)


def leftovers(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if not entry.name.endswith((".lock", ".origin.json")))


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    served = Served(CONTENT)
    url = server.serve("/weights/nat_mini.pth", served)
    path = fetch(url, sha256=SHA256)
    assert path == tmp_path / "home" / "checkpoints" / "nat_mini.pth"
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == ["nat_mini.pth"]
    assert fetch(url, sha256=SHA256) == path
    assert len(served.requests) == 1


def test_files_with_one_name_from_two_urls_are_kept_apart(server: Server) -> None:
    one = server.serve("/one/model.pth", Served(b"one"))
    two = server.serve("/two/model.pth", Served(b"two"))
    assert fetch(one).read_bytes() == b"one"
    assert fetch(two).read_bytes() == b"two"
    assert fetch(one).read_bytes() == b"one"
    assert fetch(one) != fetch(two)


def test_a_manually_saved_file_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("/a.pth", served := Served(CONTENT, status=404))
    with pytest.raises(DownloadError) as error:
        fetch(url)
    place = tmp_path / "home" / "checkpoints" / "a.pth"
    assert str(place) in str(error.value)
    assert url in str(error.value)
    place.write_bytes(CONTENT)
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    assert fetch(url, sha256=SHA256) == place
    assert len(served.requests) == 1


def test_a_connection_that_breaks_is_resumed_in_one_call(server: Server) -> None:
    served = Served(CONTENT, cut=[300_000, 400_000])
    path = fetch(server.serve("/a.pth", served), sha256=SHA256)
    assert path.read_bytes() == CONTENT
    asked = [headers.get("range") for _, headers in served.requests]
    assert asked == [None, "bytes=300000-", "bytes=700000-"]
    assert served.requests[1][1]["if-range"] == '"one"'
    assert leftovers(path) == ["a.pth"]


def test_the_next_call_continues_where_the_last_gave_up(server: Server) -> None:
    served = Served(CONTENT, cut=[300_000])
    url = server.serve("/a.pth", served)
    with pytest.raises(DownloadError, match=r"the 300000 bytes received so far are kept") as error:
        fetch(url, attempts=1)
    assert "manually" in str(error.value)
    assert not cached_path(url).exists()
    assert fetch(url, attempts=1).read_bytes() == CONTENT
    assert served.requests[1][1]["range"] == "bytes=300000-"


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_entity_tag_the_length_validates_a_part(server: Server, etag: str | None) -> None:
    served = Served(CONTENT, etag=etag, cut=[300_000])
    assert fetch(server.serve("/a.pth", served)).read_bytes() == CONTENT
    assert served.requests[1][1]["range"] == "bytes=300000-"
    assert "if-range" not in served.requests[1][1]


def test_a_server_that_ignores_ranges_sends_the_complete_file_again(server: Server) -> None:
    served = Served(CONTENT, ranges=False, cut=[300_000])
    assert fetch(server.serve("/a.pth", served), sha256=SHA256).read_bytes() == CONTENT
    assert len(served.requests) == 2


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_changed_file_is_not_appended_to_the_old_part(server: Server, honours_if_range: bool) -> None:
    url = server.serve("/a.pth", Served(CONTENT, cut=[300_000]))
    with pytest.raises(DownloadError):
        fetch(url, attempts=1)
    changed = CONTENT[::-1]
    served = Served(changed, etag='"two"')
    if not honours_if_range:
        # The server continues whatever it is asked to, and only its new entity tag shows that the file has changed.
        notes = cached_path(url).with_name("a.pth.part.json")
        notes.write_text(json.dumps({**json.loads(notes.read_text()), "etag": 'W/"one"'}))
    server.serve("/a.pth", served)
    assert fetch(url).read_bytes() == changed
    assert len(served.requests) == (1 if honours_if_range else 2)


def test_a_part_without_information_is_downloaded_again(server: Server) -> None:
    url = server.serve("/a.pth", served := Served(CONTENT))
    part = cached_path(url).with_name("a.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")
    assert fetch(url).read_bytes() == CONTENT
    assert "range" not in served.requests[0][1]


def test_a_part_longer_than_the_file_is_downloaded_again(server: Server) -> None:
    url = server.serve("/a.pth", Served(CONTENT, cut=[300_000]))
    with pytest.raises(DownloadError):
        fetch(url, attempts=1)
    server.serve("/a.pth", short := Served(b"short", etag=None, status=416, failures=1))
    assert fetch(url).read_bytes() == b"short"
    assert "range" not in short.requests[1][1]


def test_a_file_with_a_wrong_checksum_is_deleted(server: Server) -> None:
    url = server.serve("/a.pth", Served(CONTENT))
    with pytest.raises(ChecksumError, match=SHA256) as error:
        fetch(url, sha256="0" * 64)
    assert "0" * 64 in str(error.value)
    assert leftovers(cached_path(url)) == []
    assert fetch(url, sha256=SHA256[:8].upper()).read_bytes() == CONTENT


def test_a_wrong_file_in_the_cache_is_reported_and_kept(server: Server) -> None:
    url = server.serve("/a.pth", Served(CONTENT))
    path = fetch(url)
    path.write_bytes(b"damaged")
    with pytest.raises(ChecksumError, match="Delete it"):
        fetch(url, sha256=SHA256)
    assert path.read_bytes() == b"damaged"


def test_a_missing_file_is_not_retried(server: Server) -> None:
    url = server.serve("/a.pth", served := Served(b"", status=404))
    with pytest.raises(DownloadError, match="404"):
        fetch(url)
    assert len(served.requests) == 1


def test_a_busy_server_is_retried(server: Server) -> None:
    url = server.serve("/a.pth", served := Served(CONTENT, status=503, failures=2))
    assert fetch(url).read_bytes() == CONTENT
    assert len(served.requests) == 3
    busy = server.serve("/b.pth", served := Served(CONTENT, status=503))
    with pytest.raises(DownloadError, match="503"):
        fetch(busy, attempts=2)
    assert len(served.requests) == 2


@pytest.mark.parametrize(
    ("content_type", "page"),
    [
        ("text/html; charset=utf-8", b"Virus scan warning: download anyway?"),
        ("application/octet-stream", b"\n<!DOCTYPE html><html>Virus scan warning: download anyway?</html>"),
    ],
)
def test_a_web_page_is_not_mistaken_for_weights(server: Server, content_type: str, page: bytes) -> None:
    url = server.serve("/a.pth", Served(page, headers={"Content-Type": content_type}))
    with pytest.raises(DownloadError, match="a web page instead of the file"):
        fetch(url)
    assert leftovers(cached_path(url)) == []


def test_offline_explains_the_manual_download(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("/a.pth", served := Served(CONTENT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as error:
        fetch(url)
    assert url in str(error.value)
    assert str(cached_path(url)) in str(error.value)
    assert served.requests == []


def test_an_unreachable_server_explains_the_manual_download(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/a.pth"  # nothing listens there
    with pytest.raises(DownloadError, match="refused") as error:
        fetch(url, cache_dir=tmp_path, attempts=2)
    assert str(tmp_path / "a.pth") in str(error.value)


def test_a_silent_server_times_out(server: Server) -> None:
    url = server.serve("/a.pth", Served(CONTENT, seconds=2.0))
    with pytest.raises(DownloadError, match="timed out"):
        fetch(url, attempts=1, timeout=0.1)


def test_a_full_disk_is_reported(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("/a.pth", Served(CONTENT))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match="No space left"):
        fetch(url)
    assert not cached_path(url).exists()


@pytest.mark.parametrize("url", ["ftp://example.org/a.pth", "a.pth"])
def test_other_urls_are_rejected(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        fetch(url)


def test_an_invalid_checksum_is_rejected() -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        fetch("http://127.0.0.1:1/a.pth", sha256="md5:abc")


def _fetch_in_a_process(url: str, folder: str, results: multiprocessing.Queue) -> None:
    results.put(download(url, cache_dir=folder, progress=False).read_bytes() == CONTENT)


def test_several_processes_download_a_file_once(server: Server, tmp_path: Path) -> None:
    url = server.serve("/a.pth", served := Served(CONTENT, seconds=0.3))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_fetch_in_a_process, args=(url, str(tmp_path / "cache"), results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [True, True, True]
    for process in processes:
        process.join(30)
    assert len(served.requests) == 1


def test_the_progress_bar_can_be_disabled(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    download(server.serve("/seen.pth", Served(CONTENT)))
    assert "seen.pth" in capsys.readouterr().err
    fetch(server.serve("/unseen.pth", Served(CONTENT)))
    assert capsys.readouterr().err == ""


def test_an_announced_size_over_the_limit_is_refused_before_the_download(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/a.pth", Served(CONTENT))
    with pytest.raises(DownloadError, match=rf"it has {len(CONTENT)} bytes, more than the limit of 1000000") as error:
        fetch(url, max_size=1_000_000)
    assert "ATTNZOO_MAX_DOWNLOAD" in str(error.value)
    assert leftovers(cached_path(url)) == []
    monkeypatch.setenv("ATTNZOO_MAX_DOWNLOAD", "1000")
    with pytest.raises(DownloadError, match="more than the limit of 1000"):
        fetch(url)
    monkeypatch.setenv("ATTNZOO_MAX_DOWNLOAD", str(len(CONTENT)))
    assert fetch(url).read_bytes() == CONTENT


def test_a_download_without_an_end_stops_at_the_limit(server: Server) -> None:
    url = server.serve("/a.pth", Served(CONTENT, endless=True))
    with pytest.raises(DownloadError, match="did not end, more than the limit of 3000000"):
        fetch(url, max_size=3_000_000)
    assert leftovers(cached_path(url)) == []


def test_a_download_that_is_too_slow_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnzoo.zoo.weights.download._SPEED_WINDOW", 0.2)
    url = server.serve("/a.pth", served := Served(CONTENT, trickle=0.01))
    with pytest.raises(
        DownloadError, match=r"only \d+ bytes arrived in 0 seconds; the \d+ bytes received so far are kept"
    ):
        fetch(url)
    assert len(served.requests) == 1
    assert "a.pth.part" in leftovers(cached_path(url))


def test_connections_that_break_after_a_few_bytes_are_not_retried_forever(server: Server) -> None:
    url = server.serve("/a.pth", served := Served(CONTENT, cut=[10] * 100))
    with pytest.raises(DownloadError, match="40 bytes received so far are kept"):
        fetch(url, attempts=4)
    assert len(served.requests) == 4


@pytest.mark.parametrize("setting", ["0", "-1", "16 GiB"])
def test_a_wrong_limit_is_an_error(server: Server, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNZOO_MAX_DOWNLOAD", setting)
    with pytest.raises(ValueError, match="must be a number of bytes"):
        fetch(server.serve("/a.pth", Served(CONTENT)))
    with pytest.raises(ValueError, match="max_size must be positive"):
        fetch(server.serve("/a.pth", Served(CONTENT)), max_size=0)


def test_the_checksum_in_a_name_is_verified(server: Server) -> None:
    right, wrong = f"/a-{SHA256[:8]}.pth", "/a-0123abcd.pth"
    assert fetch(server.serve(right, Served(CONTENT))).read_bytes() == CONTENT
    with pytest.raises(ChecksumError, match="If the digits in its name are not its checksum, pass sha256="):
        fetch(server.serve(wrong, Served(CONTENT)))
    assert fetch(server.serve(wrong, Served(CONTENT)), sha256=SHA256).read_bytes() == CONTENT
