"""Fixtures for the tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attnzoo.zoo.catalog import entries

from ..weights.local_server import Server, running_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local HTTP server, without a proxy, and an empty cache."""
    monkeypatch.setenv("ATTNZOO_HOME", str(tmp_path / "home"))
    for name in ("ATTNZOO_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running_server() as running:
        yield running


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empties the catalog for a test, and undoes its registrations afterwards."""
    entries.all_checkpoints()  # registers the published ones, once
    monkeypatch.setattr(entries, "_entries", {})
