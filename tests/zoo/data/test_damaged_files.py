"""Damaged annotation files, lists and folders build a readable data set, or raise an error that names the file."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnzoo.zoo.analysis.detection_confusion import detection_confusion
from attnzoo.zoo.analysis.predictions import read_predictions
from attnzoo.zoo.data import (
    CocoDetection,
    CocoPanopticSemantic,
    DetectionTrain,
    ImageClassificationDataset,
    SegmentationFolders,
)
from attnzoo.zoo.data.common.decoding import BrokenImageError
from attnzoo.zoo.data.common.image_files import image_suffixes
from attnzoo.zoo.evaluation.coco_files import ground_truth, read_annotation_file
from support import painted_coco

MAX_SECONDS = 5.0
MAX_EXTRA_BYTES = 500e6
STRANGE_NUMBERS = (0, -1, 1, 2, 0.5, -0.0, 1e9, 1e308, -1e308, 2**31, 2**32, 2**63, -(2**63) - 1, 10**400)
STRANGE_VALUES = (
    *STRANGE_NUMBERS,
    *(float("nan"), float("inf"), float("-inf"), None, True, False, "", "7", "cat", "\0", "\ud800", "ü" * 300),
    *("../a.png", "/etc/passwd", ".", "a/../../b.png", [], [[]], [None], ["1", "2", "3", "4"], [1, 2, 3], [[1, 2, 3]]),
    *([[0, 0, 9, 0, 9, float("nan")]], [[1] * 7], [[1, 2]], [1, 2, 3, 4, 5, 6], [[10**400] * 6], [[1e8] * 6], {}),
    *({"id": 1}, {"size": [120, 160], "counts": "~"}, {"size": [120, 160], "counts": [5]}, {"size": "a", "counts": {}}),
    *({"size": [2**31, 2**31], "counts": [2**62]}, {"size": [120, 160], "counts": [10**9, 10**9]}),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields (container, key) of all values inside a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def mutated(content: Any, choose: random.Random) -> bytes:
    """Returns a JSON file with one to three changes of its content."""
    content = copy.deepcopy(content)
    for _ in range(choose.choice((1, 1, 2, 3))):
        found = list(places(content))
        # Numbers of long polygons should not be all that is changed.
        depths = [found[choose.randrange(len(found))] for _ in range(4)]
        container, key = min(depths, key=lambda place: isinstance(place[0], list) + len(place[0]) / 1000)
        kind = choose.randrange(6)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.insert(key, copy.deepcopy(choose.choice(container)))
        elif kind == 2:
            other, place = choose.choice(found)
            container[key] = copy.deepcopy(other[place])
        elif kind == 3 and isinstance(container[key], str):
            text = list(container[key] or "a")
            text[choose.randrange(len(text))] = choose.choice(("", "\0", "/", "..", "~", "o", "0", "\udfff", "é"))
            container[key] = "".join(text)
        else:
            container[key] = copy.deepcopy(choose.choice(STRANGE_VALUES))
        if not isinstance(content, dict | list) or not content:
            break
    return json.dumps(content).encode()


def damaged(content: bytes, choose: random.Random) -> bytes:
    """Returns a file with changed, missing, repeated or additional bytes."""
    kind, start = choose.randrange(5), choose.randrange(len(content))
    end = min(len(content), start + choose.choice((1, 1, 3, 40)))
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[end:]
    if kind == 2:
        return content[:start] + choose.randbytes(end - start) + content[end:]
    if kind == 3:
        return content[:end] + content[start:end] * choose.choice((1, 5)) + content[end:]
    nested = choose.choice((b"[", b'{"a":', b"-", b"9" * 50)) * choose.choice((3, 100_000 // 50))
    return content[:start] + nested * choose.choice((1, 50)) + content[start:]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def try_all(files: Iterator[bytes], path: Path, build: Callable[[], Any]) -> tuple[int, int]:
    """Writes each file and uses it; returns how many were accepted and how many were refused."""
    outcomes = [0, 0]
    build()
    before = peak_bytes()
    for number, content in enumerate(files):
        path.write_bytes(content)
        begin = time.process_time()
        try:
            build()
            outcomes[0] += 1
        except ValueError as error:
            check_message(error, path.name)
            outcomes[1] += 1
        except Exception as error:
            raise AssertionError(f"{number}: {content[:3000]!r} raised {error!r}") from error
        assert time.process_time() - begin < MAX_SECONDS, f"{number}: {content[:3000]!r} is slow"
    assert peak_bytes() - before < MAX_EXTRA_BYTES
    return outcomes[0], outcomes[1]


def check_message(error: ValueError, name: str) -> None:
    """Checks that an error names the damaged file, or the image that does not fit it."""
    assert name in str(error) or isinstance(error, BrokenImageError), f"{error!r} names no file"


def fuzzed(content: Any, seed: int, structured: int, byte_level: int) -> Iterator[bytes]:
    choose = random.Random(seed)
    for _ in range(structured):
        yield mutated(content, choose)
    text = json.dumps(content).encode()
    for _ in range(byte_level):
        yield damaged(text, choose)


def read_samples(dataset: Any) -> None:
    for index in range(len(dataset)):
        dataset[index]


@pytest.mark.slow
def test_detection_files(tmp_path: Path) -> None:
    content = painted_coco.content()
    painted_coco.save(tmp_path, content)
    file = tmp_path / "annotations" / "instances_train2017.json"

    def build() -> None:
        CocoDetection.class_names(root=str(tmp_path), split="train2017")
        transform = DetectionTrain(scales=[(64, 48)])
        read_samples(
            CocoDetection(str(tmp_path), "train2017", None, transform, replace_broken=False, filter_empty=False)
        )

    accepted, refused = try_all(fuzzed(content, 0, 800, 200), file, build)
    assert accepted > 50
    assert refused > 250


@pytest.mark.slow
def test_files_of_ground_truth(tmp_path: Path) -> None:
    content = painted_coco.content()
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(content))

    def build() -> None:
        read = read_annotation_file(file)
        ground_truth(read, str(file), None, [category["id"] for category in read["categories"]], masks=True)

    accepted, refused = try_all(fuzzed(content, 1, 500, 100), file, build)
    assert accepted > 50
    assert refused > 250


@pytest.mark.slow
@pytest.mark.parametrize("key", ["bbox", "segmentation"])
def test_files_of_detections(tmp_path: Path, key: str) -> None:
    content = painted_coco.content()
    (tmp_path / "truth.json").write_text(json.dumps(content))
    entries = [
        {"image_id": one["image_id"], "category_id": one["category_id"], key: one[key], "score": 0.5}
        for one in content["annotations"]
    ]
    file = tmp_path / "detections.json"
    file.write_text(json.dumps(entries))
    accepted, refused = try_all(
        fuzzed(entries, 5, 200, 50), file, lambda: detection_confusion(file, tmp_path / "truth.json")
    )
    assert accepted > 10
    assert refused > 100


@pytest.mark.slow
def test_files_of_predictions(tmp_path: Path) -> None:
    best = {"label": 1, "class": "cat", "score": 0.75}
    entries = [
        {"index": index, "path": f"{index}.png", "label": 0, "class": "dog", "predictions": [best]}
        for index in range(3)
    ]
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(entries))
    accepted, refused = try_all(fuzzed(entries, 6, 200, 50), file, lambda: read_predictions(file))
    assert accepted > 10
    assert refused > 100


@pytest.mark.slow
def test_panoptic_files(tmp_path: Path) -> None:
    ids = np.array([[70_000, 70_000, 5], [0, 300, 16_777_215]])
    for number in (8, 9):
        for folder in ("images", "panoptic"):
            (tmp_path / folder).mkdir(exist_ok=True)
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        Image.fromarray(colors).save(tmp_path / f"panoptic/{number}.png")
        Image.new("RGB", (3, 2)).save(tmp_path / f"images/{number}.jpg")
    segments = [
        {"id": one, "category_id": category}
        for one, category in zip(np.unique(ids)[1:].tolist(), (3, 41, 3, 17), strict=True)
    ]
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (8, 9)],
        "annotations": [
            {"image_id": number, "file_name": f"{number}.png", "segments_info": segments} for number in (8, 9)
        ],
        "categories": [
            {"id": number, "name": f"class {number}", "isthing": number % 2, "color": [number, 2, 3]}
            for number in (3, 17, 41)
        ],
    }
    file = tmp_path / "panoptic.json"
    file.write_text(json.dumps(content))

    def build() -> None:
        read_samples(
            CocoPanopticSemantic(
                str(file),
                str(tmp_path / "images"),
                transform={"type": "SegmentationTest", "scale": (8, 8)},
                replace_broken=False,
            )
        )

    accepted, refused = try_all(fuzzed(content, 2, 700, 200), file, build)
    assert accepted > 15
    assert refused > 300


@pytest.mark.slow
@pytest.mark.parametrize("class_map", [None, ["cat", "dog"]])
def test_lists(tmp_path: Path, class_map: list[str] | None) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    names = ("0", "1", "0") if class_map is None else ("cat", "dog", "cat")
    content = "".join(f"{name}.png {label}\n" for name, label in zip("abc", names, strict=True)).encode()
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    choose = random.Random(3)

    def build() -> None:
        read_samples(
            ImageClassificationDataset(
                str(tmp_path),
                annotations="list.txt",
                class_map=class_map,
                transform={"type": "Evaluation", "size": 8},
            )
        )

    accepted, refused = try_all((damaged(content, choose) for _ in range(300)), file, build)
    assert accepted > 10
    assert refused > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes.txt", "classes.json", "split.txt"])
def test_lists_of_classes_and_samples(tmp_path: Path, name: str) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"images/{number}.png")
        Image.new("L", (8, 8), number).save(tmp_path / f"labels/{number}.png")
    written = {
        "classes.txt": "sky\nroad\ncar\n",
        "classes.json": '{"sky": 0, "road": 1, "car": 2}',
        "split.txt": "0\n1\n2\n",
    }
    for file, text in written.items():
        (tmp_path / file).write_text(text)
    choose = random.Random(4)

    def build() -> None:
        dataset = SegmentationFolders(
            str(tmp_path),
            classes="classes.json" if name == "classes.json" else "classes.txt",
            split="split.txt",
            transform={"type": "SegmentationTest", "scale": (8, 8)},
        )
        try:
            read_samples(dataset)
        except ValueError as error:
            # With fewer classes, values of the label images are out of range.
            check_message(error, "labels/")

    contents = (damaged(written[name].encode(), choose) for _ in range(100))
    accepted, refused = try_all(contents, tmp_path / name, build)
    assert accepted + refused == 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_folders(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    suffixes = sorted(image_suffixes())
    root = tmp_path / "train"
    folders = [root]
    for _ in range(choose.randrange(1, 9)):
        folder = choose.choice(folders) / choose.choice(("cat", "dog", "images", "train", ".hidden", "a.png", "ü b"))
        folder.mkdir(parents=True, exist_ok=True)
        folders.append(folder)
    for number in range(choose.randrange(0, 12)):
        place = choose.choice(folders[1:] if choose.random() < 0.9 else folders)
        file = place / f"{number}{choose.choice((*suffixes, '.PNG', '.Jpg', '.txt', '', '.heic'))}"
        kind = choose.randrange(5)
        if kind == 0:
            file.symlink_to(choose.choice((*folders, tmp_path / "nowhere", tmp_path)))
        elif kind == 1:
            file.write_bytes(choose.randbytes(choose.randrange(40)))
        else:
            Image.new("RGB", (8, 8)).save(file, format="PNG")
    begin = time.process_time()
    try:
        dataset = ImageClassificationDataset(str(root), transform={"type": "Evaluation", "size": 8})
    except ValueError as error:
        check_message(error, str(root))
    else:
        paths = [dataset.path(index) for index in range(len(dataset))]
        assert len({os.path.realpath(os.path.dirname(path)) for path in paths}) == len(set(map(os.path.dirname, paths)))
        for index, path in enumerate(paths):
            try:
                assert dataset.classes[dataset[index]["label"]] == Path(path).relative_to(root).parts[0]
            except BrokenImageError as error:
                check_message(error, path)
    assert time.process_time() - begin < MAX_SECONDS
