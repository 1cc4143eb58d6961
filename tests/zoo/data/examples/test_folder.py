"""Generated folders: complete or absent, repaired when damaged, and never written over other files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnzoo.zoo.data.examples.folder import is_up_to_date, read_record, write_folder

FILES = [("a/one.txt", b"1"), ("two.txt", b"2")]
SETTINGS = {"size": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "made", "record.json", FILES, {"settings": SETTINGS})
    return tmp_path / "made"


def test_files_and_record_are_written(folder: Path):
    assert (folder / "a" / "one.txt").read_bytes() == b"1"
    record = read_record(folder, "record.json")
    assert record is not None
    assert record["settings"] == SETTINGS
    assert len(record["sha256"]) == 64
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_a_folder_is_up_to_date_until_a_file_changes(folder: Path, tmp_path: Path):
    assert is_up_to_date(folder, "record.json", SETTINGS, "make_it")
    (folder / "two.txt").write_bytes(b"3")
    assert not is_up_to_date(folder, "record.json", SETTINGS, "make_it")
    assert not is_up_to_date(tmp_path / "nowhere", "record.json", SETTINGS, "make_it")
    (tmp_path / "empty").mkdir()
    assert not is_up_to_date(tmp_path / "empty", "record.json", SETTINGS, "make_it")


def test_other_settings_and_other_contents_are_errors(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="was made with other settings"):
        is_up_to_date(folder, "record.json", {"size": 9}, "make_it")
    assert not is_up_to_date(folder, "record.json", {"size": 9}, "make_it", force=True)
    (folder / "record.json").write_text("[]")
    with pytest.raises(ValueError, match="was not made by make_it"):
        is_up_to_date(folder, "record.json", SETTINGS, "make_it", force=True)


def test_an_existing_folder_is_replaced_as_a_whole(folder: Path):
    write_folder(folder, "record.json", [("three.txt", b"3")], {"settings": SETTINGS})
    assert sorted(path.name for path in folder.iterdir()) == ["record.json", "three.txt"]
    assert json.loads((folder / "record.json").read_text())["settings"] == SETTINGS
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_an_interrupted_write_keeps_the_old_folder(folder: Path):
    def stops() -> Iterator[tuple[str, bytes]]:
        yield "three.txt", b"3"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, "record.json", stops(), {"settings": SETTINGS})
    assert is_up_to_date(folder, "record.json", SETTINGS, "make_it")
    assert [path.name for path in folder.parent.iterdir()] == ["made"]
