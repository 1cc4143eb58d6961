"""Which arguments a config's `type` takes, and whether a config's value fits an argument's annotation."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, Union

MISSING = inspect.Parameter.empty

_PLAIN = (bool, int, float, str, type(None))
_SEQUENCES = (list, set, frozenset, Sequence, collections.abc.Iterable, collections.abc.Collection)
_COLLECTED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument.

    Attributes:
        annotation: its type; MISSING where the code has none, or none that can be resolved.
        default: MISSING where it must be given.
    """

    annotation: Any = MISSING
    default: Any = MISSING


@dataclasses.dataclass(frozen=True)
class Arguments:
    """All arguments of a class or function.

    Attributes:
        known: by name.
        required: those without which it cannot be called.
        open: whether unknown names go somewhere that cannot be followed, and so cannot be called wrong.
    """

    known: Mapping[str, Argument]
    required: frozenset[str] = frozenset()
    open: bool = False

    def __or__(self, other: Arguments) -> Arguments:
        """Joins two: what this one forwards by **kwargs, the other takes; there nothing is required."""
        return Arguments({**other.known, **self.known}, self.required, other.open)


def arguments_of(target: Callable[..., Any]) -> Arguments:
    """Finds the arguments of a class or function, following **kwargs.

    A class's **kwargs are taken to go to the next constructor in its method resolution order, a function's to the class
    that its return annotation names. Where neither is there, any name may be given.

    Args:
        target: a class or function.

    Returns:
        Its arguments, without `self`.
    """
    if not inspect.isclass(target):
        arguments, forwards = _own_arguments(target, bound=False)
        made = _hints(target).get("return")
        if not forwards:
            return arguments
        return arguments | arguments_of(made) if inspect.isclass(made) else _opened(arguments)
    total: Arguments | None = None
    for cls in target.__mro__:
        constructor = cls.__dict__.get("__init__")
        if constructor is None or cls is object:
            continue
        if total is not None and cls.__module__.startswith("torch.nn"):
            return total  # nn.Module takes anything by its signature and nothing in fact
        arguments, forwards = _own_arguments(constructor, bound=True)
        total = arguments if total is None else total | arguments
        if not forwards:
            return total
    return _opened(total) if total is not None else Arguments({})


def misfit(value: Any, argument: Argument) -> str | None:
    """Tells what an argument should be, if a config's value cannot be it.

    Args:
        value: a plain value, list, tuple or dict.
        argument: where it is meant to go.

    Returns:
        What is expected, such as "int or None"; None where the value fits, or where nothing is known.
    """
    if argument.annotation is not MISSING:
        return None if fits(value, argument.annotation) else describe(argument.annotation)
    # Without an annotation the default tells a number from a word from a switch, and no more.
    if value is None or not isinstance(value, _PLAIN):
        return None
    for kind in (bool, str):
        if isinstance(argument.default, kind) and not isinstance(value, kind):
            return describe(kind)
    if isinstance(argument.default, int | float) and not _is_number(value) and not isinstance(argument.default, bool):
        return "a number"
    return None


def fits(value: Any, annotation: Any) -> bool:
    """Tells whether a config's value can be an argument of that annotation; in doubt it can."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, str | typing.TypeVar) or annotation in (Any, MISSING, object):
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple or annotation is tuple:
        return _fits_tuple(value, inner)
    kind = origin or annotation
    if kind is collections.abc.Callable:
        return callable(value) or isinstance(value, Mapping)
    if not inspect.isclass(kind):
        return True
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return _is_number(value)
    if kind is str:
        return isinstance(value, str)
    if kind in _SEQUENCES:
        return isinstance(value, list | tuple) and (not inner or all(fits(element, inner[0]) for element in value))
    if issubclass(kind, Mapping) or typing.is_typeddict(kind):
        return isinstance(value, Mapping)
    if kind is os.PathLike or issubclass(kind, PurePath):
        return isinstance(value, str | os.PathLike)
    # An object of some class: built from a dict(type=...), and in doubt from a list; only a plain value cannot be one.
    return isinstance(value, kind) or not isinstance(value, _PLAIN)


def describe(annotation: Any) -> str:
    """Says an annotation as people do: "int or None", "list of float", "'a' or 'b'"."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(option) for option in inner))
    if origin is Literal:
        return " or ".join(repr(option) for option in inner)
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"list of {describe(inner[0])}"
        return f"list ({', '.join(describe(option) for option in inner)})"
    kind = origin or annotation
    if inspect.isclass(kind) and _is_mapping(kind):
        return "dict"
    if inspect.isclass(kind) and issubclass(kind, Sequence) and kind is not str:
        return f"list of {describe(inner[0])}" if inner else "list"
    return getattr(kind, "__name__", str(kind))


def keys_of(annotation: Any) -> Arguments | None:
    """Finds the keys that a dict may have, where an annotation tells them (a TypedDict or dataclass).

    Args:
        annotation: of the argument that the dict is given for; the first fitting part of a union counts.

    Returns:
        The keys, or None where nothing is known.
    """
    for option in (annotation, *typing.get_args(annotation)):
        if typing.is_typeddict(option):
            hints = _hints(option)
            required = frozenset(option.__required_keys__)
            return Arguments({name: Argument(hints.get(name, MISSING)) for name in hints}, required)
        if inspect.isclass(option) and dataclasses.is_dataclass(option):
            return arguments_of(option)
    return None


def _own_arguments(function: Callable[..., Any], bound: bool) -> tuple[Arguments, bool]:
    """Reads one signature.

    Returns:
        The arguments, and whether others are forwarded by **kwargs.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C, without a signature
        return Arguments({}), True
    hints = _hints(function)
    known = {
        parameter.name: Argument(hints.get(parameter.name, MISSING), parameter.default)
        for parameter in parameters[1 if bound else 0 :]
        if parameter.kind not in (*_COLLECTED, inspect.Parameter.POSITIONAL_ONLY)
    }
    required = frozenset(name for name, argument in known.items() if argument.default is MISSING)
    forwards = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return Arguments(known, required), forwards


def _opened(arguments: Arguments) -> Arguments:
    return dataclasses.replace(arguments, open=True)


def _hints(target: Any) -> dict[str, Any]:
    target = inspect.unwrap(target) if callable(target) else target
    try:
        return typing.get_type_hints(target)
    except Exception:  # names imported under TYPE_CHECKING, and other annotations that only a type checker resolves
        return _resolvable_hints(target)


def _resolvable_hints(target: Any) -> dict[str, Any]:
    """Resolves each annotation by itself, and leaves out those that cannot be."""
    hints = {}
    for name, annotation in getattr(target, "__annotations__", {}).items():
        single = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(single, getattr(target, "__globals__", {})))
        except Exception:  # see above
            continue
    return hints


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mapping(kind: type) -> bool:
    return issubclass(kind, Mapping)


def _fits_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if not inner:
        return True
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(fits(element, inner[0]) for element in value)
    return len(value) == len(inner) and all(map(fits, value, inner))
