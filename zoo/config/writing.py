"""Writes configs as Python text that `load_config` reads.

mmengine's `Config.dump` writes keys of dicts without escaping them, so that a key in a YAML file becomes code in the
dumped config. It also fails for NaN, infinity, keywords of Python as keys, and classes as types.
"""

from __future__ import annotations

import inspect
import keyword
import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

_WIDTH = 110


def config_text(cfg: Config | Mapping[str, Any]) -> str:
    """Returns a config as Python text: one assignment per top-level key, in alphabetical order.

    A class or function, as in `type=MyHead`, is written as its import path, and an object of another class as its
    `repr` in quotes.

    Args:
        cfg: The config. Its top-level keys must be Python names.

    Raises:
        ValueError: A top-level key is not a name that Python can assign to.
    """
    content = cfg.to_dict() if isinstance(cfg, Config) else cfg
    for key in content:
        if not _is_name(key):
            raise ValueError(f"The top-level keys of a config must be names, got {key!r}.")
    return "".join(f"{key} = {_format(content[key], '')}\n" for key in sorted(content))


def import_path(target: Any) -> str:
    """Returns the import path of a class or function, "package.module.Class"."""
    return f"{target.__module__}.{target.__qualname__}"


def _format(value: Any, indent: str) -> str:
    """Formats a value, in several lines if it is long."""
    if isinstance(value, Mapping):
        names = all(map(_is_name, value))
        items = [(f"{key}=" if names else f"{key!r}: ", inner) for key, inner in value.items()]
        opening, closing = ("dict(", ")") if names else ("{", "}")
    elif isinstance(value, list | tuple):
        items = [("", inner) for inner in value]
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
    else:
        return _format_plain(value)
    inner_indent = f"{indent}    "
    parts = [prefix + _format(inner, inner_indent) for prefix, inner in items]
    single = ", ".join(parts) + ("," if isinstance(value, tuple) and len(parts) == 1 else "")
    if len(indent) + len(single) <= _WIDTH and "\n" not in single:
        return f"{opening}{single}{closing}"
    return f"{opening}\n" + "".join(f"{inner_indent}{part},\n" for part in parts) + f"{indent}{closing}"


def _format_plain(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    return repr(import_path(value) if inspect.isclass(value) or inspect.isroutine(value) else repr(value))


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
