"""Dicts are merged key by key."""

from __future__ import annotations

import pytest

from attnzoo.zoo.config import ConfigError
from attnzoo.zoo.config.merging import copied, merge


def test_dicts_are_merged_and_other_values_replaced():
    base = {"a": {"b": {"c": 1, "d": 2}, "e": [1, 2]}, "f": 3, "none": None}
    own = {"a": {"b": {"c": 9}, "e": [5]}, "f": "x", "none": {"g": 1}, "new": {"_delete_": True, "h": {"i": 1}}}
    assert merge(own, base) == {
        "a": {"b": {"c": 9, "d": 2}, "e": [5]},
        "f": "x",
        "none": {"g": 1},
        "new": {"h": {"i": 1}},
    }
    assert base["a"] == {"b": {"c": 1, "d": 2}, "e": [1, 2]}


def test_deletion_replaces():
    assert merge({"a": {"_delete_": True, "x": 1}}, {"a": {"y": 2}}) == {"a": {"x": 1}}
    assert merge({"a": {"_delete_": True, "x": 1}}, {"a": 3}) == {"a": {"x": 1}}
    assert merge({"a": {"_delete_": False, "x": 1}}, {"a": {"y": 2}}) == {"a": {"x": 1, "y": 2}}


def test_a_dict_does_not_replace_another_value_by_mistake():
    with pytest.raises(ConfigError, match=r"a\.b: is a dict, but 3 in a base\. To replace that, add _delete_=True"):
        merge({"a": {"b": {"c": 1}}}, {"a": {"b": 3}})


def test_copies_share_nothing():
    value = {"a": [{"b": (1, {"c": 2})}]}
    copy = copied(value)
    assert copy == value
    assert copy["a"] is not value["a"]
    assert copy["a"][0]["b"][1] is not value["a"][0]["b"][1]
