"""Finds what a function does with its **kwargs, by reading its source."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LOOKUPS = ("get", "pop", "setdefault")


@dataclass(frozen=True)
class KeywordUse:
    """What a function does with its **kwargs.

    Attributes:
        names: Keys that it looks up.
        to_parent: Whether it forwards them to a parent's constructor.
        to_others: Whether it forwards them to another call.
        unknown: Whether it does anything else, such as iterating over them; also if there is no source.
    """

    names: frozenset[str] = frozenset()
    to_parent: bool = False
    to_others: bool = False
    unknown: bool = False


@functools.lru_cache(maxsize=1024)
def keyword_use(function: Callable[..., Any]) -> KeywordUse:
    """Finds what a function does with its **kwargs.

    Args:
        function: A function with **kwargs.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return KeywordUse(unknown=True)
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef) or definition.args.kwarg is None:
        return KeywordUse(unknown=True)
    parents = {child: node for node in ast.walk(definition) for child in ast.iter_child_nodes(node)}
    names: set[str] = set()
    found = {"to_parent": False, "to_others": False, "unknown": False}
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id == definition.args.kwarg.arg:
            looked_up = _looked_up(node, parents)
            if looked_up is not None:
                names.add(looked_up)
            else:
                found[_destination(node, parents)] = True
    return KeywordUse(frozenset(names), **found)


def _looked_up(node: ast.Name, parents: dict[ast.AST, ast.AST]) -> str | None:
    """Returns the key in kwargs["key"], kwargs.pop("key"), "key" in kwargs and the like."""
    parent = parents[node]
    key: ast.AST | None = None
    if isinstance(parent, ast.Subscript):
        key = parent.slice
    elif isinstance(parent, ast.Compare) and isinstance(parent.ops[0], ast.In | ast.NotIn):
        key = parent.left
    elif isinstance(parent, ast.Attribute) and parent.attr in _LOOKUPS:
        call = parents[parent]
        key = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None


def _destination(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    """Returns where kwargs go: to a call, as **kwargs or as an argument, also within {**kwargs} or dict(**kwargs)."""
    here, parent = node, parents[node]
    while isinstance(parent, ast.Dict | ast.BinOp | ast.keyword) or (isinstance(parent, ast.Call) and _is_dict(parent)):
        here, parent = parent, parents[parent]
    if not isinstance(parent, ast.Call) or here is parent.func:
        return "unknown"
    is_constructor = isinstance(parent.func, ast.Attribute) and parent.func.attr == "__init__"
    return "to_parent" if is_constructor and isinstance(here, ast.keyword) else "to_others"


def _is_dict(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "dict"
