"""Tables of images and labels: columns, splits, paths, and wrong lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.data.formats.image_list import ImageList
from support.own_data import write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c d"):
        write_image(tmp_path / "photos" / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.csv", "filename,label\na.jpg,red\nb.jpg,blue\nc d.jpg,red\n"),
        ("labels.csv", "\ufeffid;breed\na;red\nb;blue\nc d;red\n"),
        ("labels.tsv", "label\tpath\nred\tphotos/a.jpg\nblue\tphotos/b.jpg\nred\tphotos/c d.jpg\n"),
        ("labels.csv", "a.jpg,red\nb.jpg,blue\nc d.jpg,red\n"),
        ("labels.txt", "photos/a.jpg red\nphotos/b.jpg blue\n\nphotos/c d.jpg red\n"),
    ],
)
def test_tables(root: Path, file: str, text: str):
    (root / file).write_text(text, encoding="utf-8")
    for place in (root, root / file):
        assert ImageList.recognizes(place)
        content = ImageList.read(place)
        assert content.classes == ("blue", "red")
        assert content.splits == {"train": [("photos/a.jpg", 1), ("photos/b.jpg", 0), ("photos/c d.jpg", 1)]}


def test_a_column_of_splits(root: Path):
    (root / "labels.csv").write_text("path,label,split\na.jpg,red,train\nb.jpg,blue,validation\n")
    assert ImageList.read(root).splits == {"train": [("photos/a.jpg", 1)], "val": [("photos/b.jpg", 0)]}


def test_other_files_are_not_tables(root: Path):
    (root / "notes.txt").write_text("these are photos\n")
    (root / "sizes.csv").write_text("width,height\n3,4\n")
    assert not ImageList.recognizes(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,red\nb.jpg\n", r"labels.csv, line 3: expected a path and a label, got 'b.jpg'"),
        (
            "path,label\na.jpg,red\nz.jpg,red\n",
            r"1 of the 2 images in .*labels.csv do not exist in .*: z.jpg \(line 3\)",
        ),
        ("path,label,split\na.jpg,red,trian\n", r"line 2: the split must be train, val or test, got 'trian'"),
    ],
)
def test_wrong_lines_are_named(root: Path, text: str, message: str):
    (root / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        ImageList.read(root / "labels.csv")
