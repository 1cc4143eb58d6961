"""Loads mmengine text configs by path or by the name of a shipped config, and merges options into them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...names import unknown_name
from .errors import ConfigError

CONFIG_ROOT = Path(__file__).resolve().parents[2] / "configs"
"""Folder of the shipped configs, in a checkout and in an installed package."""

SUFFIXES = (".py", ".json", ".yaml", ".yml")


def list_configs() -> list[str]:
    """Lists the names of the shipped configs, such as "nat/nat_mini_8xb128_300e_in1k"."""
    paths = (path.relative_to(CONFIG_ROOT).with_suffix("") for path in CONFIG_ROOT.glob("*/*.py"))
    return sorted(path.as_posix() for path in paths if not path.parts[0].startswith("_"))


def find_config(path_or_name: str | os.PathLike[str]) -> Path:
    """Finds a config file.

    Args:
        path_or_name: A path, which takes precedence, or the name of a shipped config with or without its folder and
            ".py".

    Returns:
        Path of the file.

    Raises:
        ConfigError: There is no such file or shipped config; the message has the nearest matches.
    """
    given = os.fspath(path_or_name)
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"The name of a config must end with {', '.join(SUFFIXES)}, got {given}.")
        return path
    wanted = given.removesuffix(".py").removeprefix("configs/")
    shipped = list_configs()
    matches = [name for name in shipped if wanted in (name, name.rpartition("/")[2])]
    if len(matches) > 1:
        raise ConfigError(f"{given!r} is ambiguous. It matches the shipped configs {', '.join(matches)}.")
    if not matches:
        allowed = shipped if "/" in wanted else [name.rpartition("/")[2] for name in shipped]
        raise ConfigError(f"There is no file {given}. " + unknown_name("shipped config", wanted, allowed))
    return CONFIG_ROOT / f"{matches[0]}.py"


def config_name(path: str | os.PathLike[str]) -> str:
    """Returns the name of a shipped config, or the given path of another file."""
    resolved = Path(path).resolve()
    if resolved.is_relative_to(CONFIG_ROOT):
        return resolved.relative_to(CONFIG_ROOT).with_suffix("").as_posix()
    return os.fspath(path)


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
        parsed[key] = _parse_value(value)
    return parsed


def load_config(
    path_or_name: str | os.PathLike[str], cfg_options: Mapping[str, Any] | Iterable[str] | None = None
) -> Config:
    """Loads a config and its base files, and merges options into it.

    Top-level names with a leading underscore are local to the config file and removed from the result.

    Args:
        path_or_name: See `find_config`.
        cfg_options: Values by dotted key, or strings "key=value". A number in a key is the index of a list element. New
            keys are added, but at the top level they must be known.

    Returns:
        The config, which has not been checked.

    Raises:
        ConfigError: The config does not exist or cannot be loaded, or an option does not match its structure.
    """
    path = find_config(path_or_name)
    try:
        # Without lazy_import=False, mmengine mistakes a config with an import statement for its lazy format and fails.
        cfg = Config.fromfile(path, lazy_import=False)
    except ConfigError:
        raise
    except Exception as error:  # a config is code and can fail in any way
        reason = str(error).replace("\n", " ") or "no reason given"
        raise ConfigError(f"Cannot load the config {path}: {type(error).__name__}: {reason}") from error
    for key in [key for key in cfg if key.startswith("_")]:
        cfg.pop(key)
    if cfg_options:
        options = dict(cfg_options) if isinstance(cfg_options, Mapping) else parse_options(cfg_options)
        merge_options(cfg, options)
    return cfg


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merges options into a config, in place.

    Args:
        cfg: The config.
        options: Values by dotted key.

    Raises:
        ConfigError: The top-level key is unknown, or a key leads through a value that has no keys.
    """
    from .sections import TOP_LEVEL_KEYS

    for key in options:
        first = key.partition(".")[0]
        if first not in TOP_LEVEL_KEYS:
            raise ConfigError(unknown_name("top-level key", first, TOP_LEVEL_KEYS, max_listed=0))
        _check_key_path(cfg, key)
    for key, value in options.items():
        cfg.merge_from_dict({key: value})


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
    except (ValueError, SyntaxError):
        value = text
    else:
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
