"""The register of formats."""

from __future__ import annotations

import pytest

from attnzoo.zoo.data.formats import FORMATS, DataFormat, register_format


def test_a_format_is_registered_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(FORMATS, "mine", raising=False)

    class Mine(DataFormat):
        name = "mine"
        layout = "*.mine"

    class Other(Mine):
        pass

    try:
        assert register_format(Mine) is Mine
        assert register_format(Mine) is Mine
        assert list(FORMATS)[-1] == "mine"
        with pytest.raises(ValueError, match="There is a format 'mine' already"):
            register_format(Other)
    finally:
        FORMATS.pop("mine", None)


def test_every_format_describes_its_layout():
    assert all(kind.name == name and kind.layout for name, kind in FORMATS.items())
