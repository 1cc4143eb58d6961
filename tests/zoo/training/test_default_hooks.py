"""The hooks that every run has, and how a config changes them."""

from __future__ import annotations

import pytest
from mmengine.hooks import Hook

from attnzoo.zoo.training.default_hooks import DEFAULT_HOOKS, merge_default_hooks


def test_without_changes_every_default_is_there_in_order() -> None:
    assert merge_default_hooks(None) == {name: {"type": kind} for name, kind in DEFAULT_HOOKS.items()}
    assert list(merge_default_hooks({})) == list(DEFAULT_HOOKS)


def test_arguments_keep_the_type_and_a_type_replaces_the_hook() -> None:
    own = Hook()
    hooks = merge_default_hooks(
        {
            "logger": {"interval": 5},
            "timer": {"type": "Mine"},
            "progress": None,
            "checkpoint": own,
            "extra": {"type": "X"},
        }
    )
    assert hooks["logger"] == {"type": "LoggerHook", "interval": 5}
    assert hooks["timer"] == {"type": "Mine"}
    assert "progress" not in hooks
    assert hooks["checkpoint"] is own
    assert list(hooks)[-1] == "extra"


def test_the_guard_stays() -> None:
    with pytest.raises(ValueError, match=r"guard cannot be None.*max_skips=0"):
        merge_default_hooks({"guard": None})
