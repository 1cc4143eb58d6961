"""Reads config files and their bases, as mmengine merges them.

A .py config is Python code, and loading it runs it. YAML and JSON configs are data: `data_formats` parses them, and
their bases must be data, too. mmengine's own reader is not used, because it constructs any Python object that a YAML
file names, imports what `custom_imports` of any format names, and runs .py files that data names as a base.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import traceback
import types
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from .data_formats import DATA_SUFFIXES, check_runs_no_code, parse_data
from .errors import ConfigError
from .merging import merge

SUFFIXES = (".py", *DATA_SUFFIXES)

_BASE = "_base_"
_ENVIRONMENT = re.compile(r"\{\{['\"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['\"]?\}\}")
_BASE_VARIABLE = re.compile(r"(['\"]?)\{\{\s*_base_\.([\w.]+)\s*\}\}\1")


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """Reads a config file and merges it into its bases.

    The syntax is that of mmengine's text configs: `_base_`, `_delete_`, `{{ fileDirname }}`, `{{$VARIABLE:default}}`
    for environment variables, and `{{ _base_.key }}`.

    Args:
        path: Path of the file.

    Returns:
        The merged content, and the text of the bases and the file.

    Raises:
        ConfigError: A file does not exist, is not valid or fails, or does not fit its bases.
    """
    content, texts = _read(path, ())
    return content, "\n".join(texts)


def _read(path: Path, readers: tuple[Path, ...]) -> tuple[dict[str, Any], list[str]]:
    if path.resolve() in readers:
        raise ConfigError(f"The config {path} is a base of itself.")
    source = _read_text(path)
    text, variables = _fill_in(source, path)
    if path.suffix == ".py":
        tree = _parse_python(text, path)
        bases = _python_bases(tree, path)
        own: dict[str, Any] = {}
    else:
        tree = None
        own = parse_data(text, path)
        bases = own.pop(_BASE, None)
    base, texts = ConfigDict(), []
    for base_path in _base_paths(bases, path):
        content, base_texts = _read(base_path, (*readers, path.resolve()))
        texts += base_texts
        duplicates = sorted(base.keys() & content.keys())
        if duplicates:
            raise ConfigError(f"{path}: the bases must not have the same keys, got {', '.join(duplicates)} twice.")
        base.update(content)
    if tree is not None:
        own = _run(tree, base, path)
    own = _with_variables(own, variables, base, path)
    try:
        merged = merge(own, base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if path.suffix != ".py":
        check_runs_no_code(merged, path)
    return merged, [*texts, f"{path}\n{source}"]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"Cannot load the config {path}: it is not a text file in UTF-8.") from error
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"Cannot load the config {path}: {type(error).__name__}: {reason}") from error


def _fill_in(text: str, path: Path) -> tuple[str, dict[str, str]]:
    """Replaces the templates in the text of a config.

    Returns:
        The text, and the dotted keys of variables of the bases by the placeholders that the text has for them.
    """
    full = Path(os.path.abspath(path))
    for name, value in (
        ("fileDirname", full.parent.as_posix()),
        ("fileBasenameNoExtension", full.stem),
        ("fileBasename", full.name),
        ("fileExtname", full.suffix),
    ):
        text = re.sub(rf"\{{\{{\s*{name}\s*\}}\}}", lambda _, value=value: value, text)

    def environment(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = os.environ.get(name, default)
        if not value:
            raise ConfigError(f"{path}: the environment variable {name} must be set; it has no default.")
        return value

    text = _ENVIRONMENT.sub(environment, text)
    variables: dict[str, str] = {}

    def variable(match: re.Match[str]) -> str:
        placeholder = f"_{match[2]}_{uuid.uuid4().hex}"
        variables[placeholder] = match[2]
        return f'"{placeholder}"'

    return _BASE_VARIABLE.sub(variable, text), variables


def _parse_python(text: str, path: Path) -> ast.Module:
    with _reporting(path):
        return ast.parse(text, filename=str(path))


def _python_bases(tree: ast.Module, path: Path) -> Any:
    """Returns the value that a Python config assigns to `_base_`, and removes the assignment."""
    for statement in tree.body:
        if not isinstance(statement, ast.Assign):
            continue
        if isinstance(statement.targets[0], ast.Name) and statement.targets[0].id == _BASE:
            tree.body.remove(statement)
            with _reporting(path):
                return eval(compile(ast.Expression(statement.value), str(path), "eval"), {})
    return None


def _base_paths(bases: Any, path: Path) -> list[Path]:
    """Returns the paths of a config's bases, which are relative to its folder."""
    paths = []
    for base in bases if isinstance(bases, list | tuple) else [] if bases is None else [bases]:
        if not isinstance(base, str):
            raise ConfigError(f"{path}: _base_ must be a path or a list of paths, got {base!r}.")
        if "::" in base:
            raise ConfigError(f"{path}: _base_ must be the path of a file; {base!r} names another package's config.")
        suffix = Path(base).suffix
        if suffix not in SUFFIXES:
            raise ConfigError(f"{path}: the name of a base must end with {', '.join(SUFFIXES)}, got {base!r}.")
        if path.suffix != ".py" and suffix == ".py":
            raise ConfigError(
                f"{path}: the base {base!r} is Python code, and {path.suffix} configs are data. Their bases must end "
                f"with {', '.join(DATA_SUFFIXES)}. To change values of a .py config, write a .py config."
            )
        paths.append(path.parent / Path(base).expanduser())
        if not paths[-1].is_file():
            raise ConfigError(f"Cannot load the config {path}: there is no base {paths[-1]}.")
    return paths


def _run(tree: ast.Module, base: ConfigDict, path: Path) -> dict[str, Any]:
    """Runs a Python config and returns its variables, without modules, functions and classes."""
    variables: dict[str, Any] = {_BASE: base}
    with _reporting(path):
        exec(compile(tree, str(path), "exec"), variables)
    left_out = types.FunctionType | types.ModuleType | type
    return {
        key: value
        for key, value in variables.items()
        if key != _BASE and not key.startswith("__") and not isinstance(value, left_out)
    }


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Context manager that turns any exception of a Python config into a ConfigError with its line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        number = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        line = f"line {number}: " if number else ""
        reason = (error.msg if isinstance(error, SyntaxError) else str(error)).replace("\n", " ") or "no reason given"
        raise ConfigError(f"Cannot load the config {path}: {type(error).__name__}: {line}{reason}") from error


def _with_variables(value: Any, variables: Mapping[str, str], base: ConfigDict, path: Path) -> Any:
    """Replaces the placeholders of variables of the bases by their values."""
    if isinstance(value, str) and value in variables:
        found: Any = base
        for part in variables[value].split("."):
            if not isinstance(found, Mapping) or part not in found:
                raise ConfigError(f"{path}: the bases have no {variables[value]!r}.")
            found = found[part]
        return found
    if isinstance(value, dict):
        return {key: _with_variables(inner, variables, base, path) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with_variables(inner, variables, base, path) for inner in value)
    return value
