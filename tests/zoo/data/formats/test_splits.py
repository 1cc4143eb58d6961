"""Names of splits, and holding out."""

from __future__ import annotations

import pytest

from attnzoo.zoo.data.formats.splits import hold_out, split_of


def test_names():
    assert [split_of(name) for name in ("train", "Valid", "validation", "testing", "cat")] == [
        "train",
        "val",
        "val",
        "test",
        None,
    ]


def test_every_group_with_two_samples_is_in_both_parts():
    groups = [0] * 2 + [1] * 10 + [2]
    train, val = hold_out(range(13), groups, 0.2, seed=3)
    assert sorted([*train, *val]) == list(range(13))
    assert train == sorted(train)
    assert [sum(groups[index] == group for index in val) for group in range(3)] == [1, 2, 0]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(fraction: float):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        hold_out([1, 2], [0, 0], fraction, 0)
