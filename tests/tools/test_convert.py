"""tools/convert.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.tools import convert
from support.own_data import coco


def test_it_prints_what_was_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, out = coco(tmp_path / "fish"), tmp_path / "out"
    assert convert.main([str(source), str(out), "--images", "link"]) == 0
    assert capsys.readouterr().out == f"{out}: COCO JSON to COCO JSON, 2 classes; images: 4 train, 4 val\n"
    assert convert.main([str(source), str(out)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
