import copy
import json

import pytest

from attnzoo.zoo.data.formats.panoptic import read_panoptic

CONTENT = {
    "images": [{"id": 8, "file_name": "8.jpg"}, {"id": 9, "file_name": "a/9.jpg"}],
    "annotations": [
        {
            "image_id": 8,
            "file_name": "8.png",
            "segments_info": [{"id": 5, "category_id": 3}, {"id": 6, "category_id": 4}],
        },
        {"image_id": 9, "file_name": "9.png", "segments_info": []},
    ],
    "categories": [{"id": 3, "name": "cat", "isthing": 1, "color": [1, 2, 3]}, {"id": 4, "name": "sky"}],
}


def write(tmp_path, content):
    (tmp_path / "panoptic.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "panoptic.json"


def test_a_correct_file_is_returned_as_it_is(tmp_path):
    assert read_panoptic(write(tmp_path, CONTENT)) == CONTENT


def set_value(*path, value):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


SEGMENT = ("annotations", 0, "segments_info", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("categories"), "lacks the lists categories"),
        (set_value("images", value={}), "lacks the lists images"),
        (lambda content: content["annotations"][0].pop("segments_info"), "not a panoptic annotation file"),
        (set_value("images", 1, value=7), "entries must be objects: image number 1 is 7"),
        (set_value("images", 1, "id", value=8), "ids of images must be unique: 8 is used twice"),
        (set_value("images", 1, "id", value="9"), "id must be an integer of at most 64 bits: image number 1 has '9'"),
        (set_value("images", 1, "file_name", value="../9.jpg"), "file_name must be .*: image 9 has '../9.jpg'"),
        (set_value("annotations", 1, value=None), "entries must be objects: annotation number 1 is None"),
        (set_value("annotations", 1, "image_id", value=7), "must be in the file: annotation has image_id 7"),
        (set_value("annotations", 1, "image_id", value=8), "must have one annotation: image 8 has several"),
        (
            set_value("annotations", 1, "file_name", value=3),
            r"file_name must .*: annotation number 1 \(image 9\) has 3",
        ),
        (set_value("annotations", 1, "segments_info", value=3), "segments_info must be a list: annotation number 1"),
        (set_value(*SEGMENT, value=3), "entries must be objects: segment number 1 of image 8 is 3"),
        (set_value(*SEGMENT, "id", value=0), r"id must be an integer in \[1, 16777215\]: segment 0 of image 8 has 0"),
        (set_value(*SEGMENT, "id", value=5), "segments of an image must be unique: 5 is used twice in image 8"),
        (set_value(*SEGMENT, "category_id", value=[4]), r"category_id must .*: segment 6 of image 8 has \[4\]"),
        (set_value(*SEGMENT, "category_id", value=7), "must be in the file: segment 6 of image 8 has category_id 7"),
        (set_value("categories", 1, "id", value=3), "ids of categories must be unique: 3 is used twice"),
        (set_value("categories", 1, "name", value=None), "name must be a text: category 4 has None"),
        (set_value("categories", 0, "isthing", value="yes"), "isthing must be 0 or 1: category 3 has 'yes'"),
        (set_value("categories", 0, "color", value=[1, 2, 300]), r"color must be .*: category 3 has \[1, 2, 300\]"),
    ],
)
def test_errors_are_named(tmp_path, change, message):
    content = copy.deepcopy(CONTENT)
    change(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_panoptic(write(tmp_path, content))
    assert "panoptic.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "7", '"x"', "[" * 10**5, "{"])
def test_other_files_raise(tmp_path, text):
    with pytest.raises(ValueError, match=r"panoptic\.json is not "):
        read_panoptic(write(tmp_path, text))
