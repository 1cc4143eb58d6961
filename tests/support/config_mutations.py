"""Seeded mutations of configs, as dicts and as text."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 10**9, -(10**12), 1e-3, 0.5, -0.5, 1e30, math.nan, math.inf, -math.inf, "", "1e-3", "x",
    "auto", "nat_mini", "Accuracy", "os.system", "a.b.c", [], [1], [0, 0], [-1, 2], ["a"], [[1], None], (1, 2), {},
    {"type": "x"}, {"type": 3}, {"type": None}, {"type": "nat_mini"}, {"a": 1}, [{"type": "Accuracy"}], [{}],
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Lists the paths of all values in a config."""
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in pairs:
        found += places(inner, (*path, key))
    return found


def look_up(cfg: Any, path: tuple[Any, ...]) -> Any:
    """Returns the value at a path."""
    for key in path:
        cfg = cfg[key]
    return cfg


def mutate(cfg: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Returns a copy of a config with one to three mutations."""
    cfg = _with_lists(copy.deepcopy(cfg))
    for _ in range(rng.choice((1, 1, 2, 3))):
        path = rng.choice(places(cfg) or [("model",)])
        owner, key = look_up(cfg, path[:-1]), path[-1]
        kind = rng.choice(("rename", "drop", "value", "value", "value", "swap", "nest", "add", "wrap"))
        if kind == "rename" and isinstance(owner, dict) and key in owner:
            owner[_misspelled(str(key), rng)] = owner.pop(key)
        elif kind == "drop":
            del owner[key]
        elif kind == "swap":
            other = rng.choice(places(cfg))
            owner[key] = copy.deepcopy(look_up(cfg, other))
        elif kind == "nest":
            owner[key] = {
                rng.choice(("type", "dataset", "x")): owner.get(key) if isinstance(owner, dict) else owner[key]
            }
        elif kind == "wrap":
            owner[key] = [owner[key]] * rng.choice((1, 2))
        elif kind == "add" and isinstance(owner, dict):
            owner[rng.choice(("type", "_delete_", "_scope_", "x", "size", 3))] = copy.deepcopy(rng.choice(VALUES))
        else:
            owner[key] = copy.deepcopy(rng.choice(VALUES))
    return cfg


def mutate_text(text: str, rng: random.Random) -> str:
    """Returns the text of a YAML or JSON config with one to four mutations."""
    for _ in range(rng.choice((1, 2, 4))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((1, 1, 2, 8, 40)))
        part = rng.choice(
            (
                "", "{", "}", "[", "]", ":", ",", "\n", "\n  ", "\t", "&a ", "*a", "!!python/name:os.system ", "!!set ",
                "? ", "null", "1e-3", ".nan", "'", '"', "\\", "\x00", "#", "%", "---\n", "<<: ", "{{ _base_.x }}",
                "{{$HOME:x}}", "_base_: x.py\n", "é", text[end : end + 30],
            )
        )  # fmt: skip
        text = text[:start] + part + text[end if rng.random() < 0.7 else start :]
    return text


def _with_lists(value: Any) -> Any:
    """Returns a config with lists in place of tuples, which cannot be changed."""
    if isinstance(value, dict):
        return {key: _with_lists(inner) for key, inner in value.items()}
    return [_with_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def _misspelled(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) or 1)
    return rng.choice((word[:at] + word[at + 1 :], word[:at] + "x" + word[at:], word.upper(), word + "s"))
