"""Parses YAML and JSON configs, which are data: nothing in them is executed or imported."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..registry import MODELS, SCOPE
from .errors import ConfigError

DATA_SUFFIXES = (".json", ".yaml", ".yml")
"""Suffixes of configs that are data."""

MAX_DEPTH = 50
MAX_VALUES = 100_000
"""Largest nesting and number of values of a config. Aliases in YAML can repeat a value exponentially often."""

_SCOPES = (SCOPE, "mmengine")
_REMEDY = "Only a .py config may run code: write one with _base_ = [{name!r}], and move the entry there."


def parse_data(text: str, path: Path) -> dict[str, Any]:
    """Parses the text of a YAML or JSON config.

    Tags of Python objects in YAML are refused, except for tuples, which `Config.dump` writes. Numbers such as 1e-3 are
    floats, as in YAML 1.2.

    Args:
        text: The text.
        path: Path of the file, which selects the format by its suffix.

    Returns:
        The content: dicts, lists, tuples, strings, numbers, bools and None.

    Raises:
        ConfigError: The text is not valid, or the content is not a dict of plain values.
    """
    try:
        if path.suffix == ".json":
            content = json.loads(text, object_pairs_hook=_unique_pairs)
        else:
            content = yaml.load(text, _Loader)  # a subclass of SafeLoader
    except RecursionError as error:
        raise ConfigError(f"Cannot load the config {path}: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"Cannot load the config {path}: {_reason(error)}") from error
    if content is None:
        raise ConfigError(f"The config {path} is empty.")
    if not isinstance(content, dict):
        raise ConfigError(f"The config {path} must be a dict of keys and values, got a {type(content).__name__}.")
    _check_plain(content, path)
    return content


def check_runs_no_code(content: Mapping[str, Any], path: Path) -> None:
    """Raises if a config names Python code to import.

    Args:
        content: Content of a YAML or JSON config.
        path: Path of the file, for messages.

    Raises:
        ConfigError: The config has `custom_imports`, a type by its import path, or an unknown scope.
    """
    remedy = _REMEDY.format(name=path.name)
    if "custom_imports" in content:
        raise ConfigError(
            f"{path}: custom_imports imports Python modules, and {path.suffix} configs are data. {remedy}"
        )
    for where, key, value in _entries(content, ""):
        if key in ("default_scope", "_scope_") and value is not None and value not in _SCOPES:
            raise ConfigError(f"{path}: {where} must be one of {', '.join(_SCOPES)}, got {value!r}. {remedy}")
        if key == "type" and isinstance(value, str) and _is_import_path(value):
            raise ConfigError(
                f"{path}: {where} must be a registered name, got {value!r}, which would be imported. {remedy}"
            )


def _is_import_path(name: str) -> bool:
    """Returns whether a type is looked up by its import path, unlike a scope with a name, or a model with a tag."""
    return "." in name.removeprefix(f"{SCOPE}.") and not MODELS.is_backbone(name)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with tuples, floats as in YAML 1.2, dates as strings, and an error for duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Constructs a dict."""
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"found the key {key_node.value!r} twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        """Constructs a tuple."""
        assert isinstance(node, yaml.Node)
        if not isinstance(node, yaml.SequenceNode):
            raise yaml.constructor.ConstructorError(None, None, "a tuple must be a list", node.start_mark)
        return tuple(self.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_tuple)
# The resolvers of a subclass are its own, copied by the first `add_implicit_resolver`.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"found the key {duplicate!r} twice")
    return content


def _reason(error: Exception) -> str:
    """Describes an error of a parser, with its line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return " ".join(f"{line}{problem}".split())


def _check_plain(content: dict[str, Any], path: Path) -> None:
    """Raises unless all values are plain, and there are not too many of them."""
    count = 0
    pending: list[tuple[str, Any, int]] = [("", content, 0)]
    while pending:
        where, value, depth = pending.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ConfigError(
                f"The config {path} is too large: it has more than {MAX_VALUES} values or {MAX_DEPTH} levels."
            )
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str | int):
                    raise ConfigError(f"{path}: the keys of {where or 'a config'} must be strings, got {key!r}.")
                pending.append((f"{where}.{key}" if where else str(key), inner, depth + 1))
        elif isinstance(value, list | tuple):
            pending += [(f"{where}.{index}", inner, depth + 1) for index, inner in enumerate(value)]
        elif value is not None and not isinstance(value, str | int | float):
            raise ConfigError(f"{path}: {where} must be a plain value, got a {type(value).__name__}.")
    for key in content:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: the keys of a config must be strings, got {key!r}.")


def _entries(value: Any, where: str) -> Iterable[tuple[str, Any, Any]]:
    """Yields the dotted key, the key and the value of every entry of a dict, however deep."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, inner in pairs:
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            yield place, key, inner
        if isinstance(inner, Mapping | list | tuple):
            yield from _entries(inner, place)
