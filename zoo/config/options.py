"""Options of a command line, "key.inner=value", and what a config's test sections take from those for validation."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config

from ...names import unknown_name
from .errors import ConfigError
from .merging import copied, merge

_FOLLOWED = {"test_dataloader": "val_dataloader", "test_evaluator": "val_evaluator", "test_cfg": "val_cfg"}


def parse_options(options: Iterable[str]) -> dict[str, Any]:
    """Parses options from a command line.

    Args:
        options: Strings "key.inner=value". A value is a Python literal or a string without quotes. `true`, `false` and
            `none` may be lowercase, and the brackets of a list may be omitted: `dilations=1,2`, `betas=(0.9,0.95)`.

    Returns:
        Values by dotted key.

    Raises:
        ConfigError: An option has no "=" or no key.
    """
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key or any(not part for part in key.split(".")):
            raise ConfigError(f"An option must be key=value or key.inner=value, got {option!r}.")
        try:
            parsed[key] = _parse_value(value)
        except RecursionError as error:
            raise ConfigError(f"The value of the option {key} is nested too deeply.") from error
    return parsed


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merges options into a config and completes its test sections, in place.

    `test_dataloader`, `test_evaluator` and `test_cfg` default to those for validation, with their options. A section
    that equals that for validation, or that does not name the type of its data set, metric or loop, follows it, too:
    the options for validation change both. Options of a test section are merged last.

    Args:
        cfg: The config.
        options: Values by dotted key.

    Raises:
        ConfigError: The top-level key of an option is unknown, or a key leads through a value that has no keys.
    """
    changes = {test: _changes(cfg, test, val) for test, val in _FOLLOWED.items()}
    _merge_options(cfg, {key: value for key, value in options.items() if key.partition(".")[0] not in _FOLLOWED})
    for test, val in _FOLLOWED.items():
        change, followed = changes[test], _for_test(val, cfg.get(val))
        if change is not None and followed is not None and (val != "val_cfg" or cfg.get("test_dataloader")):
            cfg[test] = merge(change, followed, test) if isinstance(followed, Mapping) else copied(followed)
    _merge_options(cfg, {key: value for key, value in options.items() if key.partition(".")[0] in _FOLLOWED})


def _changes(cfg: Config, test: str, val: str) -> Mapping[str, Any] | None:
    """Returns what a test section changes in that for validation; None if it does not follow that one."""
    followed = _for_test(val, cfg.get(val))
    if test not in cfg or (cfg[test] is not None and cfg[test] == followed):
        return {}
    given: Any = cfg[test]
    if not isinstance(given, Mapping) or not isinstance(followed, Mapping):
        return None
    typed = given if val != "val_dataloader" else given.get("dataset", {})
    return None if not isinstance(typed, Mapping) or "type" in typed else given


def _for_test(val: str, section: Any) -> Any:
    """Returns the section for validation as it would be for testing, where the loop has another type."""
    if val == "val_cfg" and isinstance(section, Mapping) and section.get("type") == "ValLoop":
        return {**section, "type": "TestLoop"}
    return {"type": "TestLoop"} if val == "val_cfg" else section


def _merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    from .sections import TOP_LEVEL_KEYS

    for key in options:
        first = key.partition(".")[0]
        if first not in TOP_LEVEL_KEYS:
            raise ConfigError(unknown_name("top-level key", first, TOP_LEVEL_KEYS, max_listed=0))
        _check_key_path(cfg, key)
    for key, value in options.items():
        _set(cfg, key.split("."), value)


def _set(here: Any, parts: list[str], value: Any) -> None:
    """Sets a value at the end of a checked key path; a dict is merged into a dict."""
    while len(parts) > 1:
        key: Any = int(parts[0]) if isinstance(here, list) else parts[0]
        if not isinstance(here, list) and here.get(key) is None:
            here[key] = {}
        here, parts = here[key], parts[1:]
    key = int(parts[0]) if isinstance(here, list) else parts[0]
    old = here[key] if isinstance(here, list) else here.get(key)
    here[key] = merge({key: value}, {key: old} if isinstance(old, Mapping) else {})[key]


def _check_key_path(cfg: Config, key: str) -> None:
    """Raises unless all parts of a dotted key but the last lead to a dict or to an element of a list."""
    here: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        so_far = ".".join(parts[:depth])
        if isinstance(here, tuple):
            raise ConfigError(f"The option {key}: {so_far} is a tuple. Replace it completely.")
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                raise ConfigError(
                    f"The option {key}: {so_far} is a list of {len(here)}, and {part!r} is not one of its indices."
                )
            here = here[int(part)]
        elif isinstance(here, Mapping | Config):
            if part not in here or (here[part] is None and depth < len(parts) - 1):
                return  # new keys are checked with the rest of the config
            here = here[part]
        else:
            raise ConfigError(f"The option {key}: {so_far} is {here!r} and has no keys.")


def _parse_value(text: str) -> Any:
    text = text.strip()
    word = {"true": True, "false": False, "none": None, "null": None}.get(text.lower(), text)
    if word is not text:
        return word
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError):
        value = text
    value = value if _is_plain(value) else text
    if value is not text:
        # Without brackets, values with commas are a list; a tuple needs brackets.
        return list(value) if isinstance(value, tuple) and not text.startswith("(") else value
    if text[:1] + text[-1:] in ("[]", "()"):
        elements = [_parse_value(part) for part in _split(text[1:-1])]
        return tuple(elements) if text[0] == "(" else elements
    parts = _split(text)
    return [_parse_value(part) for part in parts] if len(parts) > 1 else value


def _split(text: str) -> list[str]:
    """Splits text at commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        depth += (char in "([{") - (char in ")]}") if not quote else 0
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return [part for part in parts if part.strip()]


def _is_plain(value: Any) -> bool:
    """Returns whether a literal is a value that configs have, unlike bytes, sets, complex numbers and "..."."""
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
