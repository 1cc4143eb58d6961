"""Pascal VOC's format: its own layout, files beside the images, and wrong files."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.data.formats.pascal_voc import PascalVocXml
from support.own_data import write_image

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>5</xmin><ymin>3</ymin>"
    "<xmax>{right}</xmax><ymax>12</ymax></bndbox></object>"
)


def annotation(name: str = "crab", difficult: int = 0, right: object = 20, file: str = "a.jpg") -> str:
    size = "<size><width>32</width><height>24</height><depth>3</depth></size>"
    found = OBJECT.format(name=name, difficult=difficult, right=right)
    return f"<annotation><filename>{file}</filename>{size}{found}</annotation>"


def test_its_own_layout(tmp_path: Path):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name, kind, difficult in (("a", "fish", 0), ("b", "crab", 1)):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(annotation(kind, difficult))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b 1\n")
    assert PascalVocXml.recognizes(tmp_path)
    content = PascalVocXml.read(tmp_path)
    assert content.classes == ("crab", "fish")
    (box,) = content.splits["train"]["annotations"]
    assert (box["bbox"], box["category_id"], box["iscrowd"]) == ([4.0, 2.0, 16.0, 10.0], 2, 0)
    assert content.splits["train"]["images"][0]["file_name"] == "JPEGImages/a.jpg"
    assert content.splits["val"]["annotations"][0]["iscrowd"] == 1
    assert not +content.left_out


def test_files_beside_the_images(tmp_path: Path):
    write_image(tmp_path / "set1" / "a.jpg")
    (tmp_path / "set1" / "a.xml").write_text(annotation())
    content = PascalVocXml.read(tmp_path)
    assert content.image_paths("train") == [tmp_path / "set1" / "a.jpg"]
    assert list(content.splits) == ["train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"a.xml is not an annotation in Pascal VOC's format"),
        ("<annotation></annotation>", r"a.xml is not an annotation"),
        (annotation(right="x"), r"a.xml is not an annotation .*'x'"),
        (annotation(right=2), r"the box of 'crab' has no or wrong corners"),
        (annotation(right="nan"), r"the box of 'crab' has no or wrong corners"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        PascalVocXml.read(tmp_path)


def test_missing_images_and_names_are_reported(tmp_path: Path):
    (tmp_path / "a.xml").write_text(annotation())
    with pytest.raises(ValueError, match=r"a.xml: there is no image a in"):
        PascalVocXml.read(tmp_path)
    write_image(tmp_path / "a.jpg")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("c\n")
    with pytest.raises(ValueError, match=r"the split 'train' names 'c', which has no XML file"):
        PascalVocXml.read(tmp_path)
