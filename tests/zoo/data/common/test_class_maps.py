import pickle

import pytest

from attnzoo.zoo.data.classification.sources import build_source
from attnzoo.zoo.data.common.class_maps import class_names, load_class_map


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ("nowhere.txt", "'nowhere.txt' does not exist"),
        ("map.pkl", "must be a .txt or .json"),
        ("imagenet-3k", "has no class names"),
        ([], "empty"),
        (["a", "b", "a"], "'a' more than once"),
        ({"a": -1}, "must be non-negative integers"),
        ({"a": "b"}, "must be non-negative integers"),
        (["cow", "horse"], "contains none of the 2 classes"),
        (7, "dict or a list"),
        ({"a": True}, "must be non-negative integers"),
        ({"a": 10**9}, "must be non-negative integers below 1000000, got 1000000000 for 'a'"),
        ("damaged.json", r"damaged\.json is not valid JSON"),
        ("text.json", r"text\.json must be a dict or a list of names, got str"),
        ("nested.json", r"nested\.json must have names as strings, got \"\['a'\]\""),
        ("binary.txt", r"binary\.txt, line 2: it is not text in UTF-8"),
    ],
)
def test_impossible_class_maps_raise(make_folder, class_map, message):
    root = make_folder()
    (root / "map.pkl").write_bytes(b"")
    (root / "damaged.json").write_text("[")
    (root / "text.json").write_text('"cat"')
    (root / "nested.json").write_text('[["a"]]')
    (root / "binary.txt").write_bytes(b"cat\n\xff\n")
    with pytest.raises(ValueError, match=message):
        build_source(str(root), class_map=class_map)


def test_class_maps_are_not_pickles(tmp_path):
    path = tmp_path / "map.pkl"
    path.write_bytes(pickle.dumps({"a": 0}))
    with pytest.raises(ValueError, match=r"\.txt or \.json"):
        load_class_map(str(path), ".")


def test_forms_of_class_maps(tmp_path):
    (tmp_path / "map.txt").write_text("cat\ncow\n\ndog\n")
    (tmp_path / "list.json").write_text('["cat", "cow", "dog"]')
    (tmp_path / "dict.json").write_text('{"cat": 0, "dog": 2}')
    expected = {"cat": 0, "cow": 1, "dog": 2}
    for given in (["cat", "cow", "dog"], "map.txt", tmp_path / "map.txt", "list.json"):
        assert load_class_map(given, str(tmp_path)) == expected
    assert (
        load_class_map("dict.json", str(tmp_path)) == load_class_map({"cat": 0, "dog": 2}, "") == {"cat": 0, "dog": 2}
    )
    imagenet = load_class_map("imagenet-1k", "")
    assert (len(imagenet), imagenet["n01440764"], imagenet["n15075141"]) == (1000, 0, 999)


def test_names_by_label():
    assert class_names({"dog": 2, "cat": 0}) == ("cat", "1", "dog")
    assert class_names({"dog": 0, "wolf": 0, "cat": 1}) == ("dog/wolf", "cat")
