import pytest

from attnzoo.zoo.data.formats.file_errors import (
    CATEGORY,
    FILE_NAME,
    INSTANCE,
    SIZE,
    Field,
    FileErrors,
    check_entries,
    entry_name,
    is_file_name,
    repeated,
)


def errors_of(entries, fields, kind="annotation"):
    errors = FileErrors("a.json")
    correct = check_entries(entries, fields, kind, errors)
    try:
        errors.raise_if_any()
    except ValueError as error:
        assert not correct
        return str(error)
    assert correct
    return ""


def test_one_message_has_all_kinds_of_errors_with_ten_entries_each():
    fields = (
        Field("x", "must be 1", lambda value: value == 1),
        Field("y", "must be 2", lambda value: value == 2, True),
    )
    entries = [{"id": number, "x": 0 if number < 12 else 1} for number in range(20)] + [{"x": 1, "y": "z" * 90}]
    first, x, y = errors_of(entries, fields).splitlines()
    assert first == "a.json has errors:"
    listed = ", ".join(f"annotation {number} has 0" for number in range(10))
    assert x == f"- x must be 1: {listed}, ... (2 more)."
    assert y.startswith("- y must be 2: annotation number 20 has 'zzz")
    assert len(y) < 90
    assert errors_of([{"id": 3}], fields) == "a.json has errors:\n- x must be 1: annotation 3 has none."
    assert not errors_of([{"x": 1}, {"x": 1, "y": 2}], fields)
    assert errors_of([[], {}], fields, "image").endswith("- entries must be objects: image number 0 is [].")


CORRECT = {"id": 1, "image_id": 2, "category_id": 3, "bbox": [0, 1.5, 2, 3], "area": 2.5, "iscrowd": 0}


@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore"])
@pytest.mark.parametrize(
    "value", ["7", [1], {}, 1.5, float("nan"), float("inf"), 2**63, [1, 2, 3], ["1", "2", "3", "4"], [1, 2, 3, None]]
)
def test_wrong_values_of_instances_are_named(key, value):
    if key == "area" and value in (1.5, 2**63):
        return
    message = errors_of([{**CORRECT, key: value}], INSTANCE)
    assert f"- {key} must be" in message
    assert f"annotation {'number 0' if key == 'id' else 1} has " in message


def test_correct_entries_have_no_errors():
    assert not errors_of([CORRECT, {**CORRECT, "iscrowd": True, "ignore": None, "id": None, "area": 3}], INSTANCE)
    assert not errors_of([{"height": 480.0, "width": 640}], SIZE)
    assert not errors_of([{"id": -3, "name": "ü"}, {"id": 0, "name": 7}], CATEGORY)


@pytest.mark.parametrize("value", [0, -1, 1.5, "480", None, True, float("nan"), float("inf"), 2**31, [480]])
def test_impossible_sizes_are_named(value):
    assert "height must be a positive integer" in errors_of([{"id": 5, "height": value, "width": 1}], SIZE, "image")


@pytest.mark.parametrize(
    "name", ["", "/a.jpg", "../a.jpg", "a/../../b.jpg", "..", "a\0.jpg", "\ud800.jpg", 3, None, ["a"]]
)
def test_file_names_do_not_lead_out_of_the_folder(name):
    assert not is_file_name(name)
    assert "file_name must be a path inside" in errors_of([{"file_name": name}], (FILE_NAME,), "image")
    assert is_file_name("a..b/c...jpg")


def test_values_that_are_nested_deeply_are_shortened():
    value = []
    for _ in range(10_000):
        value = [value]
    assert "[[[[[[[...]]]]]]]" in errors_of([{**CORRECT, "bbox": value}], INSTANCE)


def test_entries_are_named_by_their_ids():
    assert entry_name("annotation", {"id": 4}, 0) == "annotation 4"
    assert entry_name("annotation", {"id": "4"}, 9) == "annotation number 9"
    assert entry_name("annotation", {"image_id": 4}, 9) == "annotation number 9 (image 4)"
    assert entry_name("annotation", "4", 9) == "annotation number 9"
    assert repeated([1, 2, None, 1, None, 3, 1, 2]) == [1, 2]
