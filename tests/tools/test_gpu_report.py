"""Tests of tools/gpu_report.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnzoo.tools import gpu_report


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "gpu_check.json"
    tests = {"collected": 3, "passed": 3, "failed": 0, "skipped": 0, "failures": []}
    path.write_text(json.dumps({"parts": {"tests": {"status": "passed", "results": tests}}}))
    return path


def test_blocks_are_printed_with_their_markers(report: Path, capsys: pytest.CaptureFixture[str]):
    assert gpu_report.main([str(report)]) == 0
    expected = "<!-- gpu-check:tests -->\nTests: 3 passed, 0 failed, 0 skipped of 3.\n<!-- /gpu-check:tests -->\n\n"
    assert capsys.readouterr().out == expected
    assert gpu_report.main([str(report), "--block", "test"]) == 2
    assert "Unknown block 'test'. Did you mean 'tests'" in capsys.readouterr().err


def test_blocks_are_inserted_into_documents(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    document = tmp_path / "README.md"
    document.write_text("a\n<!-- gpu-check:tests -->\n<!-- /gpu-check:tests -->\nb\n")
    assert gpu_report.main([str(report), "--write", str(document)]) == 0
    assert capsys.readouterr().out == f"{document}: tests\n"
    assert "3 passed" in document.read_text()
    other = tmp_path / "other.md"
    other.write_text("no markers")
    assert gpu_report.main([str(report), "--write", str(other)]) == 2
    assert f"{other}: There is no pair of markers" in capsys.readouterr().err
    assert other.read_text() == "no markers"


@pytest.mark.parametrize(("content", "message"), [("{", "is not a JSON file"), ("[]", "it has no parts")])
def test_other_files_are_rejected(tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "other.json"
    path.write_text(content)
    assert gpu_report.main([str(path)]) == 2
    assert message in capsys.readouterr().err
