"""Loads configs by path or by the name of a shipped config, and merges options into them.

All parts of the zoo load configs here. A .py config is its author's code, and loading it runs it, as do the modules of
its `custom_imports`. YAML and JSON configs are data and run nothing, see `data_formats`.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...names import unknown_name
from ..work_dir import CONFIG
from .errors import ConfigError
from .options import apply_options, parse_options
from .reading import SUFFIXES, read_config

CONFIG_ROOT = Path(__file__).resolve().parents[2] / "configs"
"""Folder of the shipped configs, in a checkout and in an installed package."""


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
    if not matches and path.is_dir():
        inner = path / CONFIG
        hint = f" Did you mean {inner}?" if inner.is_file() else ""
        raise ConfigError(f"A config is a file, but {given} is a folder.{hint}")
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
    content, text = read_config(path)
    content = {key: value for key, value in content.items() if not key.startswith("_")}
    try:
        cfg = Config(content, cfg_text=text, filename=path)
    except (KeyError, TypeError, ValueError) as error:  # names that mmengine reserves
        raise ConfigError(f"Cannot load the config {path}: {error.args[0]}") from error
    options = dict(cfg_options) if isinstance(cfg_options, Mapping) else parse_options(cfg_options or ())
    apply_options(cfg, options)
    _import_modules(cfg)
    return cfg


def _import_modules(cfg: Config) -> None:
    """Imports the modules of `custom_imports`, which register types.

    Only a .py config and options can have it, because `data_formats` refuses it in others.

    Raises:
        ConfigError: `custom_imports` is malformed, or a module cannot be imported.
    """
    settings = cfg.get("custom_imports")
    if not settings:
        return
    names = settings.get("imports") if isinstance(settings, Mapping) else None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"custom_imports: must be dict(imports=[...]) with the names of modules, got {settings!r}.")
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a module is code and can fail in any way
            if isinstance(error, ImportError) and settings.get("allow_failed_imports", False):
                warnings.warn(f"custom_imports: cannot import {name}: {error}", stacklevel=3)
                continue
            searched = f" Modules are searched in {', '.join(sys.path)}." if isinstance(error, ImportError) else ""
            raise ConfigError(
                f"custom_imports: cannot import {name}: {type(error).__name__}: {error}.{searched}"
            ) from error
