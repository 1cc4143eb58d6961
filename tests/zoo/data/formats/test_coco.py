import copy
import gc
import json
import pickle

import numpy as np
import pytest

from attnzoo.zoo.data.formats import coco
from attnzoo.zoo.data.formats.coco import CocoAnnotations, PackedBytes, read_categories
from support import painted_coco


@pytest.fixture
def read(tmp_path):
    """Writes an annotation file with a change to its content, and reads it."""

    def make(change=lambda content: None, **options):
        content = painted_coco.content()
        content["categories"] = copy.deepcopy(content["categories"])
        change(content)
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return CocoAnnotations(tmp_path / "instances.json", **options)

    return make


def test_arrays_hold_the_file(read):
    content = painted_coco.content()
    annotations = read()
    assert annotations.classes == painted_coco.CLASSES
    assert annotations.categories == annotations.all_categories == (3, 7, 42)
    assert annotations.image_ids.tolist() == [11, 5, 30, 2]
    assert annotations.sizes.tolist() == [[120, 160], [150, 110], [90, 130], [64, 64]]
    assert annotations.file_names[1] == b"000005.png"
    assert annotations.has_annotation.tolist() == [True, True, True, False]
    assert [annotations.instances(image) for image in range(4)] == [slice(0, 3), slice(3, 7), slice(7, 8), slice(8, 8)]
    # Instances are sorted by image, and for each image in the order of the file.
    expected = [one for image in (11, 5, 30) for one in painted_coco.instances(content, image)]
    boxes = np.array([one["bbox"] for one in expected])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(annotations.boxes, boxes)
    assert annotations.labels.tolist() == [{3: 0, 7: 1, 42: 2}[one["category_id"]] for one in expected]
    assert annotations.is_crowd.tolist() == [bool(one["iscrowd"]) for one in expected]


def test_masks_match_the_file(read):
    content = painted_coco.content()
    annotations = read()
    expected = [one for image in (11, 5, 30) for one in painted_coco.instances(content, image)]
    for number, one in enumerate(expected):
        shape = annotations.segmentation(number)
        if isinstance(one["segmentation"], list):
            polygons = [np.reshape(ring, (-1, 2)) for ring in one["segmentation"]]
            assert len(shape) == len(polygons)
            for found, polygon in zip(shape, polygons, strict=True):
                np.testing.assert_allclose(found, polygon, atol=5e-4)
        else:
            counts, size = shape
            found = painted_coco.bitmap({"size": list(size), "counts": counts.decode()}, *size)
            np.testing.assert_array_equal(found, painted_coco.bitmap(one["segmentation"], *size))


def test_chosen_classes_are_labeled_by_ascending_id(read):
    annotations = read(classes=["ring", "disc"])
    assert (annotations.classes, annotations.categories) == (("disc", "ring"), (7, 42))
    assert annotations.all_categories == (3, 7, 42)
    assert len(annotations.boxes) == 5
    for wrong in ([], ["ring", "ring"]):
        with pytest.raises(ValueError, match="classes must name at least one category"):
            read(classes=wrong)
    with pytest.raises(ValueError, match=r"Unknown category 'rings'. Did you mean 'ring'"):
        read(classes=["rings"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.pop("images"), "lacks the lists images"),
        (lambda made: made.update(categories=[]), "has no categories"),
        (lambda made: made["images"][1].pop("height"), "height must be a positive integer.*: image 5 has none"),
        (lambda made: made["images"][1].update(file_name="../a.png"), "file_name must be a path inside.*: image 5 has"),
        (lambda made: made["images"][1].update(id=11), "ids of images must be unique: 11 is used twice"),
        (lambda made: made["annotations"][2].pop("bbox"), "bbox must be .*: annotation 102 has none"),
        (lambda made: made["annotations"][2].update(bbox=[1, 2, 3]), r"bbox must .*: annotation 102 has \[1, 2, 3\]"),
        (
            lambda made: made["annotations"][2].update(segmentation={"size": [1, 2]}),
            "segmentation must .*: annotation 102",
        ),
        (lambda made: made["annotations"][2].update(segmentation=[["a"] * 6]), "segmentation must .*: annotation 102"),
        (
            lambda made: made["annotations"][1]["segmentation"].update(size=[160, 120]),
            "size of run lengths must be .* annotation 101 has 160x120, its image 120x160",
        ),
        (
            lambda made: made["annotations"][2]["segmentation"]["counts"].append(5),
            "run lengths must cover .* annotation 102 has 150x110, but run lengths of 16505 pixels",
        ),
        (lambda made: made["annotations"][3].update(id=100), "ids of annotations must be unique: 100 is used twice"),
        (
            lambda made: [one.update(image_id=77) for one in made["annotations"]],
            "the image of an annotation must be in the file: annotation 100 has image_id 77, annotation 101 has",
        ),
        (
            lambda made: made["annotations"][0].update(category_id=4),
            "the category of an annotation must be in the file: annotation 100 has category_id 4",
        ),
        (lambda made: made["annotations"][0].update(segments_info=[]), "is a panoptic annotation file, without boxes"),
        (lambda made: made["annotations"].insert(0, 5), "entries must be objects: annotation number 0 is 5"),
        (lambda made: made["categories"].append({"id": 3, "name": "other"}), "several categories with the same id"),
        (lambda made: made["categories"].append({"id": 4, "name": "kite"}), "several categories with the same id"),
    ],
)
def test_files_in_another_format_raise(read, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(change)
    assert "instances.json" in str(caught.value)


def test_masks_are_not_checked_if_they_are_not_wanted(read):
    annotations = read(lambda made: made["annotations"][1]["segmentation"].update(size=[160, 120]), with_masks=False)
    assert len(annotations.boxes) == 8


def test_all_kinds_of_errors_are_reported_at_once(read):
    def change(made):
        made["annotations"][0].update(category_id=4)
        made["annotations"][3].update(id=105)
        made["annotations"][1]["segmentation"].update(counts="~")

    with pytest.raises(ValueError, match="has errors:") as caught:
        read(change)
    assert str(caught.value).count("\n- ") == 3


def test_files_that_are_not_json_raise(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        CocoAnnotations(tmp_path / "a.json")
    assert gc.isenabled()
    with pytest.raises(ValueError, match=r"no annotation file .*b\.json"):
        CocoAnnotations(tmp_path / "b.json")


def test_annotations_are_stored_in_arrays(read):
    def change(content):
        first = content["annotations"][0]
        content["annotations"] += [{**first, "id": 1000 + number} for number in range(20000)]

    annotations = read(change)
    # 16 bytes of box, 5 of label and crowd, 8 of the mask's end, 12 + 4 + 32 of the mask.
    assert annotations.nbytes < 85 * 20008
    # Nothing else grows with the annotations: Python objects would be pickled, too.
    assert len(pickle.dumps(annotations)) < 85 * 20008 + 10000


@pytest.mark.parametrize("keys", [("categories", "images", "annotations"), ("images", "annotations", "categories")])
def test_categories_are_read_without_the_rest(tmp_path, keys):
    content = painted_coco.content()
    content["categories"] = [*painted_coco.CATEGORIES, {"id": 9, "name": 'a "tall" [ü]'}]
    (tmp_path / "a.json").write_text(json.dumps({key: content[key] for key in keys}, ensure_ascii=False))
    assert read_categories(tmp_path / "a.json") == {42: "ring", 3: "kite", 7: "disc", 9: 'a "tall" [ü]'}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"images": []}',
        '{"categories": ["cat"]}',
        '{"categories": [{"id": 1}]}',
        '{"categories": [{"id": "1", "name": "cat"}]}',
        '{"categories": {"id": 1}}',
        '{"categories": ' + "[" * 10**5,
    ],
)
def test_files_without_categories_have_none(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_categories(tmp_path / "a.json") is None
    assert read_categories(tmp_path / "b.json") is None


def test_byte_strings_are_packed():
    packed = PackedBytes([b"ab", b"", b"c"])
    assert [packed[index] for index in range(len(packed))] == [b"ab", b"", b"c"]
    assert packed.nbytes == 3 * 8 + 3


def test_old_names_warn():
    with pytest.warns(DeprecationWarning, match="Shape is now called Segmentation"):
        assert coco.Shape == coco.Segmentation
