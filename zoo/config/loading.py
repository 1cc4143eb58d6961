"""Loading configs: mmengine's text configs, by path or by the name of a shipped one, with options on top."""

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
"""Where the shipped configs are, in a checkout and in an installed package."""

SUFFIXES = (".py", ".json", ".yaml", ".yml")


def list_configs() -> list[str]:
    """Lists the shipped configs by their names, such as "nat/nat_mini_8xb128_300e_in1k"."""
    paths = (path.relative_to(CONFIG_ROOT).with_suffix("") for path in CONFIG_ROOT.glob("*/*.py"))
    return sorted(path.as_posix() for path in paths if not path.parts[0].startswith("_"))


def find_config(path_or_name: str | os.PathLike[str]) -> Path:
    """Finds a config file.

    Args:
        path_or_name: a path, or the name of a shipped config with or without its folder and ".py". A file that exists
            at that path wins.

    Returns:
        The file's path.

    Raises:
        ConfigError: there is neither; the message names the nearest shipped configs.
    """
    given = os.fspath(path_or_name)
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{given} is no config: its name must end with one of {', '.join(SUFFIXES)}.")
        return path
    wanted = given.removesuffix(".py").removeprefix("configs/")
    shipped = list_configs()
    matches = [name for name in shipped if wanted in (name, name.rpartition("/")[2])]
    if len(matches) > 1:
        raise ConfigError(f"{given!r} could be any of the shipped configs {', '.join(matches)}.")
    if not matches:
        allowed = shipped if "/" in wanted else [name.rpartition("/")[2] for name in shipped]
        raise ConfigError(f"There is no file {given}. " + unknown_name("shipped config", wanted, allowed))
    return CONFIG_ROOT / f"{matches[0]}.py"


def config_name(path: str | os.PathLike[str]) -> str:
    """Names a config file: its place below the shipped ones, or the path as it was given."""
    resolved = Path(path).resolve()
    if resolved.is_relative_to(CONFIG_ROOT):
        return resolved.relative_to(CONFIG_ROOT).with_suffix("").as_posix()
    return os.fspath(path)


def parse_options(options: Iterable[str]) -> dict[str, Any]:
    """Reads options as a command line gives them.

    Args:
        options: "key.inner=value" each. A value is a Python literal, or a bare word, which is a string; `true`,
            `false` and `none` may be lower case, and brackets around a list may be left out: `dilations=1,2`,
            `betas=(0.9,0.95)`.

    Returns:
        Values by dotted key.

    Raises:
        ConfigError: an option has no "=", or no key.
    """
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key or any(not part for part in key.split(".")):
            raise ConfigError(f"The option {option!r} must read key=value or key.inner=value.")
        parsed[key] = _parse_value(value)
    return parsed


def load_config(
    path_or_name: str | os.PathLike[str], cfg_options: Mapping[str, Any] | Iterable[str] | None = None
) -> Config:
    """Loads a config with the files that it is based on, and puts options on top.

    Top-level names that begin with an underscore are helpers of the config file and are left out of the result.

    Args:
        path_or_name: see `find_config`.
        cfg_options: values by dotted key, or "key=value" strings; a number in a key is a list's index. A key that is
            not in the config is added, but at the top level only known ones are.

    Returns:
        The config, not yet checked.

    Raises:
        ConfigError: there is no such config, it cannot be read, or an option fits nowhere in it.
    """
    path = find_config(path_or_name)
    try:
        # Without lazy_import=False mmengine takes a config with an import for its other format, and fails on it.
        cfg = Config.fromfile(path, lazy_import=False)
    except ConfigError:
        raise
    except Exception as error:  # a config is code and can fail in any way
        reason = str(error).replace("\n", " ") or "no reason given"
        raise ConfigError(f"The config {path} cannot be loaded: {type(error).__name__}: {reason}") from error
    for key in [key for key in cfg if key.startswith("_")]:
        cfg.pop(key)
    if cfg_options:
        options = dict(cfg_options) if isinstance(cfg_options, Mapping) else parse_options(cfg_options)
        merge_options(cfg, options)
    return cfg


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Puts options on top of a config, in place.

    Args:
        cfg: the config.
        options: values by dotted key.

    Raises:
        ConfigError: a key begins with no known top-level key, or goes through something that has no keys.
    """
    from .sections import TOP_LEVEL_KEYS

    for key in options:
        first = key.partition(".")[0]
        if first not in TOP_LEVEL_KEYS:
            raise ConfigError(unknown_name("top-level key", first, TOP_LEVEL_KEYS, most=0))
        _check_way(cfg, key)
    for key, value in options.items():
        cfg.merge_from_dict({key: value})


def _check_way(cfg: Config, key: str) -> None:
    """Raises unless every part of a dotted key but the last leads to a dict or to a list's element."""
    here: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        so_far = ".".join(parts[:depth])
        if isinstance(here, tuple):
            raise ConfigError(f"The option {key}: {so_far} is a tuple; replace it as a whole.")
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                raise ConfigError(
                    f"The option {key}: {so_far} is a list of {len(here)}; {part!r} is no position in it."
                )
            here = here[int(part)]
        elif isinstance(here, Mapping | Config):
            if part not in here or (here[part] is None and depth < len(parts) - 1):
                return  # what is added is checked with the rest
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
        # A tuple is written with brackets; without them it is the command line's list.
        return list(value) if isinstance(value, tuple) and not text.startswith("(") else value
    if text[:1] + text[-1:] in ("[]", "()"):
        elements = [_parse_value(part) for part in _split(text[1:-1])]
        return tuple(elements) if text[0] == "(" else elements
    parts = _split(text)
    return [_parse_value(part) for part in parts] if len(parts) > 1 else value


def _split(text: str) -> list[str]:
    """Splits at the commas outside of brackets and quotes."""
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
