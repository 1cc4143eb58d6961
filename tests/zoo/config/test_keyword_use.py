"""What functions do with their **kwargs is read from their source."""

from __future__ import annotations

from typing import Any

import pytest

from attnzoo.zoo.config.keyword_use import KeywordUse, keyword_use


class Forwards:
    def __init__(self, a: int, **kwargs: Any) -> None:
        super().__init__(**{"b": 1, **kwargs}, **dict(kwargs, c=2))


class Pops:
    def __init__(self, **settings: Any) -> None:
        self.a = settings.pop("a")
        self.b = settings.get("b", 1) if "c" in settings else settings["d"]
        super().__init__(**settings)


def passes_on(**kwargs: Any) -> Any:
    return print("x", kwargs)


def unpacks(**kwargs: Any) -> Any:
    return dict(passes_on(**kwargs))


def iterates(**kwargs: Any) -> list[str]:
    return [name.upper() for name in kwargs]


def ignores(**kwargs: Any) -> None:
    """Does nothing."""


def pops_by_variable(name: str, **kwargs: Any) -> Any:
    return kwargs.pop(name)


@pytest.mark.parametrize(
    ("function", "use"),
    [
        (Forwards.__init__, KeywordUse(to_parent=True)),
        (Pops.__init__, KeywordUse(frozenset("abcd"), to_parent=True)),
        (passes_on, KeywordUse(to_others=True)),
        (unpacks, KeywordUse(to_others=True)),
        (iterates, KeywordUse(unknown=True)),
        (ignores, KeywordUse()),
        (pops_by_variable, KeywordUse(unknown=True)),
        (eval("lambda **kwargs: None"), KeywordUse(unknown=True)),
    ],
)
def test_uses(function: Any, use: KeywordUse):
    assert keyword_use(function) == use
