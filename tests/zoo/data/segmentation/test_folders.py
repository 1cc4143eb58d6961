import json

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo.heads.structures import ImageInfo
from attnzoo.zoo.data import (
    ADE20K,
    PascalVOC,
    SampleKey,
    SegmentationFolders,
)
from attnzoo.zoo.data.segmentation import folders as segmentation_folders
from attnzoo.zoo.registry import DATASETS
from support import painted

CLASSES = ("red", "green", "blue", "yellow")


TRAIN = {"type": "SegmentationTrain", "scale": (60, 30), "crop_size": (24, 24)}


TEST = {"type": "SegmentationTest", "scale": (60, 30)}


def folders(root, **arguments):
    return SegmentationFolders(str(root), **{"classes": CLASSES, "transform": TEST, **arguments})


@pytest.fixture
def root(tmp_path):
    return painted.save(tmp_path)


def test_two_folders_from_a_config(root):
    dataset = DATASETS.build(
        {"type": "SegmentationFolders", "root": str(root), "classes": list(CLASSES), "transform": TEST}
    )
    assert (len(dataset), dataset.classes, str(dataset)) == (4, CLASSES, f"The data set {root} (images)")
    assert dataset.metainfo["classes"] == CLASSES
    assert dataset.metainfo["palette"][:2] == [[0, 0, 0], [128, 0, 0]]
    sample = dataset[SampleKey(3, 2, 1)]
    np.testing.assert_array_equal(sample["label_map"], painted.labels(2))
    assert sample["image"].dtype == torch.uint8
    assert painted.agreement(sample["image"].permute(1, 2, 0).numpy(), painted.labels(2)) > 0.99
    facts = ImageInfo((30, 40), (30, 40), (1.0, 1.0))
    others = {"index": 2, "epoch": 3, "repeat": 1, "path": str(root / "images/02.jpg"), "broken": [], "info": facts}
    assert {key: value for key, value in sample.items() if key not in ("image", "label_map")} == others
    with pytest.raises(IndexError, match="no sample 4"):
        dataset[4]


def test_images_of_any_suffix_are_matched_with_their_labels(tmp_path):
    for number, suffix in enumerate((".png", ".JPG", ".webp", ".tif", ".bmp")):
        Image.fromarray(painted.paint(painted.labels(number))).save(
            _folder(tmp_path / "images/x") / f"{number}{suffix}"
        )
        Image.fromarray(painted.labels(number)).save(_folder(tmp_path / "labels/x") / f"{number}.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    dataset = folders(tmp_path)
    assert [pair.image.rsplit("/", 1)[1] for pair in dataset.pairs] == ["0.png", "1.JPG", "2.webp", "3.tif", "4.bmp"]
    for number in range(5):
        np.testing.assert_array_equal(dataset[number]["label_map"], painted.labels(number))


def _folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_endings_of_file_names(tmp_path):
    for number in range(2):
        Image.fromarray(painted.paint(painted.labels(number))).save(_folder(tmp_path / "i/a") / f"{number}_photo.png")
        Image.fromarray(painted.labels(number)).save(_folder(tmp_path / "l/a") / f"{number}_ids.png")
        Image.fromarray(painted.labels(number)).convert("RGB").save(tmp_path / "l/a" / f"{number}_color.png")
    dataset = folders(tmp_path, images="i", labels="l", image_ending="_photo", label_ending="_ids")
    assert [pair.labels for pair in dataset.pairs] == [str(tmp_path / f"l/a/{number}_ids.png") for number in range(2)]


def test_a_split_lists_samples_in_its_order(root):
    (root / "train.txt").write_text("03\n\n01.jpg\n")
    dataset = folders(root, split="train.txt")
    assert [pair.image for pair in dataset.pairs] == [str(root / "images/03.jpg"), str(root / "images/01.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("00\n07\n", "lists '07' in line 2, which is not an image in"),
        ("00\n01\n00\n", "lists '00' in line 3 and in line 1"),
        ("\n", "is empty"),
        (None, r"There is no split file .*train\.txt\. Its folder contains other\.txt"),
    ],
)
def test_impossible_splits_raise(root, content, message):
    (root / "other.txt").write_text("00\n")
    if content is not None:
        (root / "train.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        folders(root, split="train.txt")


def test_images_without_labels_raise_or_are_skipped(root):
    (root / "labels/01.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images .* such as .*01\.jpg \(expected: .*01\.png\)"):
        folders(root)
    dataset = folders(root, skip_unlabelled=True)
    assert [pair.image[-6:] for pair in dataset.pairs] == ["00.jpg", "02.jpg", "03.jpg"]
    assert "1 images without labels are skipped" in dataset.check()[0]


def test_a_test_set_has_no_labels(root):
    dataset = folders(root, labels=None)
    assert dataset[1]["label_map"] is None
    assert dataset.check() == []
    with pytest.raises(ValueError, match="SegmentationTrain needs labels"):
        folders(root, labels=None, transform=TRAIN)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": "imags"}, r"There is no folder .*imags: correct root or images\. .* contains images, labels"),
        ({"labels": "masks"}, "There is no folder .*masks: correct root or labels"),
        ({"label_ending": "_ids"}, "has no files whose names end with '_ids'"),
        ({"num_classes": 5}, "has 4 classes, not num_classes=5"),
        ({"classes": None}, "needs classes"),
        ({"classes": "names.txt"}, "The class map 'names.txt' does not exist"),
        ({"transform": None}, "needs a transform"),
    ],
)
def test_impossible_arguments_raise(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        folders(root, **arguments)


def test_two_images_with_the_same_name_raise(root):
    Image.new("RGB", (4, 4)).save(root / "images/00.png")
    with pytest.raises(ValueError, match=r"00\.jpg and .*00\.png have the same name"):
        folders(root)


def test_images_of_all_formats_are_found_and_other_files_counted(root, monkeypatch):
    messages = []
    monkeypatch.setattr(segmentation_folders, "print_log", lambda message, **_: messages.append(message))
    for number, suffix in enumerate(("JFIF", "tga", "webp")):
        image = root / f"images/0{number}.jpg"
        Image.open(image).save(image.with_suffix(f".{suffix}"))
        image.unlink()
    for name in ("images/a.heic", "images/b.mp4", "labels/00.jpg", "labels/.hidden"):
        (root / name).write_bytes(b"")
    assert [pair.image[-7:] for pair in folders(root).pairs] == ["00.JFIF", "/01.tga", "02.webp", "/03.jpg"]
    assert messages == [
        f"{root / 'images'}: left out files that are not read as images: 1 .heic, 1 .mp4.",
        f"{root / 'labels'}: left out files that are not read as labels: 1 .jpg.",
    ]


def test_links_are_followed_once(root):
    (root / "images/loop").symlink_to(root / "images")
    (root / "labels/loop").symlink_to(root / "labels")
    assert len(folders(root)) == 4


def test_lines_of_a_split_that_are_not_text_are_named(root):
    (root / "train.txt").write_bytes(b"00\n\n\xff\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 3: it is not text in UTF-8"):
        folders(root, split="train.txt")


def test_class_names_from_files(root):
    (root / "names.txt").write_text("\n".join(CLASSES))
    (root / "names.json").write_text(json.dumps(dict(zip(CLASSES, range(4), strict=True))))
    for given in ("names.txt", "names.json", str(root / "names.txt")):
        assert folders(root, classes=given).classes == CLASSES


def test_ade20k(tmp_path):
    for split in ("training", "validation"):
        for number in range(2):
            values = np.array([[0, 1, 150], [2, 13, 149]], np.uint8)
            name = f"ADE_{split[:5]}_{number:08}"
            Image.fromarray(values).save(_folder(tmp_path / "annotations" / split) / f"{name}.png")
            Image.new("RGB", (3, 2)).save(_folder(tmp_path / "images" / split) / f"{name}.jpg")
    dataset = ADE20K(str(tmp_path), "validation", TEST)
    assert len(dataset) == 2
    assert dataset.pairs[1].labels == str(tmp_path / "annotations/validation/ADE_valid_00000001.png")
    np.testing.assert_array_equal(dataset[0]["label_map"], [[255, 0, 149], [1, 12, 148]])
    names = dataset.classes
    assert (len(names), len(set(names))) == (150, 150)
    assert (names[0], names[12], names[136], names[149]) == ("wall", "person", "traffic light", "flag")
    colors = dataset.metainfo["palette"]
    assert len(colors) == 150
    assert (colors[0], colors[12], colors[149]) == ([120, 120, 120], [150, 5, 61], [92, 0, 255])


def test_pascal_voc(tmp_path):
    for number in range(3):
        image = Image.fromarray(np.array([[0, 20], [255, 15]], np.uint8))
        image.putpalette([part for color in np.random.default_rng(0).integers(0, 256, (256, 3)) for part in color])
        image.save(_folder(tmp_path / "SegmentationClass") / f"2007_{number}.png")
    for number in range(5):
        Image.new("RGB", (2, 2)).save(_folder(tmp_path / "JPEGImages") / f"2007_{number}.jpg")
    (_folder(tmp_path / "ImageSets/Segmentation") / "val.txt").write_text("2007_2\n2007_0\n")
    dataset = PascalVOC(str(tmp_path), "val", transform=TEST)
    assert [pair.image[-6:] for pair in dataset.pairs] == ["_2.jpg", "_0.jpg"]
    np.testing.assert_array_equal(dataset[0]["label_map"], [[0, 20], [255, 15]])
    assert (len(dataset.classes), dataset.classes[15], dataset.classes[20]) == (21, "person", "tvmonitor")
    assert dataset.metainfo["palette"][15] == [192, 128, 128]
    with pytest.raises(ValueError, match=r"no split file .*test\.txt\. Its folder contains val\.txt"):
        PascalVOC(str(tmp_path), "test", transform=TEST)


def test_class_names_and_colors_are_known_before_images_are_read(root):
    assert SegmentationFolders.class_names(root=str(root), classes=["a", "b"]) == ("a", "b")
    (root / "names.txt").write_text("a\nb\n")
    assert SegmentationFolders.class_names(root=str(root), classes="names.txt") == ("a", "b")
    assert SegmentationFolders.class_names(root=str(root)) is None
    assert SegmentationFolders.class_palette(palette=[(1, 2, 3)]) == [[1, 2, 3]]
    assert SegmentationFolders.class_palette() is None
    ade, ade_colors = ADE20K.class_names(split="validation"), ADE20K.class_palette()
    assert ade is not None
    assert ade_colors is not None
    assert (len(ade), ade[0], len(ade_colors), ade_colors[0]) == (150, "wall", 150, [120, 120, 120])
    voc, voc_colors = PascalVOC.class_names(), PascalVOC.class_palette()
    assert voc is not None
    assert voc_colors is not None
    assert (len(voc), voc[1], len(voc_colors), voc_colors[1]) == (21, "aeroplane", 21, [128, 0, 0])


def _problems(problems):
    return [problem.split(" (from")[0] for problem in problems]


def test_missing_folders_are_named_by_their_argument(root, monkeypatch):
    monkeypatch.chdir(root)
    check = SegmentationFolders.check_paths
    assert list(check(root=str(root))) == list(check(root=str(root), labels=None)) == []
    assert _problems(check(root=str(root), images="a", labels="b", split="c.txt")) == [
        f"images: there is no {root / 'a'}",
        f"labels: there is no {root / 'b'}",
        f"split: there is no {root / 'c.txt'}",
    ]
    assert _problems(check(root="nowhere")) == ["root: there is no nowhere"]
    assert _problems(ADE20K.check_paths()) == ["root: there is no data/ade/ADEChallengeData2016"]
    assert _problems(ADE20K.check_paths(root=str(root))) == [
        f"images: there is no {root / 'images/training'}",
        f"labels: there is no {root / 'annotations/training'}",
    ]
    assert _problems(PascalVOC.check_paths(root=str(root), split="val")) == [
        f"images: there is no {root / 'JPEGImages'}",
        f"labels: there is no {root / 'SegmentationClass'}",
        f"split: there is no {root / 'ImageSets/Segmentation/val.txt'}",
    ]
