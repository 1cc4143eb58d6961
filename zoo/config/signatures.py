"""Arguments of the types in a config, and whether a value in a config matches an annotation.

pydantic's TypeAdapter is not used for the latter. In its strict mode it rejects what configs rely on (lists for tuples,
a dict(type=...) for any class), in its lax mode it accepts what they must not ("3" for an int, 1 for a bool), and it
raises for annotations that it cannot resolve, which are common in third-party constructors.
"""

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

import torch

from .keyword_use import keyword_use

MISSING = inspect.Parameter.empty

_PLAIN = (bool, int, float, str, type(None))
_SEQUENCES = (list, set, frozenset, Sequence, collections.abc.Iterable, collections.abc.Collection)
_COLLECTED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument.

    Attributes:
        annotation: Its type; MISSING if there is no annotation that can be resolved.
        default: Its default; MISSING if it is required.
    """

    annotation: Any = MISSING
    default: Any = MISSING


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments of a class or function.

    Attributes:
        known: Arguments by name.
        required: Names of the required arguments.
        open: Whether other names are accepted, because **kwargs are used in a way that cannot be followed.
    """

    known: Mapping[str, Argument]
    required: frozenset[str] = frozenset()
    open: bool = False

    def __or__(self, other: Arguments) -> Arguments:
        """Merges with the arguments of a function that gets **kwargs; those are all optional."""
        return Arguments({**other.known, **self.known}, self.required, self.open or other.open)


def arguments_of(target: Callable[..., Any]) -> Arguments:
    """Finds the arguments of a class or function, following **kwargs.

    The **kwargs of a class are assumed to go to the next constructor in its method resolution order, and those of a
    function to the class in its return annotation. Keys that a function looks up in its **kwargs are arguments, too. If
    its source uses them in another way, any name is accepted.

    Args:
        target: A class or function.

    Returns:
        Its arguments, without `self`.
    """
    if not inspect.isclass(target):
        arguments, forwards = _own_arguments(target, bound=False)
        made = _hints(target).get("return")
        if not forwards:
            return arguments
        arguments = _with_keywords(arguments, target, is_constructor=False)
        return arguments | arguments_of(made) if inspect.isclass(made) else _opened(arguments)
    total: Arguments | None = None
    for cls in target.__mro__:
        constructor = cls.__dict__.get("__init__")
        if constructor is None or cls is object:
            continue
        if total is not None and cls.__module__.startswith("torch.nn"):
            return total  # nn.Module's signature accepts any argument, but its constructor none
        arguments, forwards = _own_arguments(constructor, bound=True)
        if forwards:
            arguments = _with_keywords(arguments, constructor, is_constructor=True)
        total = arguments if total is None else total | arguments
        if not forwards:
            return total
    return _opened(total) if total is not None else Arguments({})


def misfit(value: Any, argument: Argument) -> str | None:
    """Describes the expected type of an argument if a value does not match it.

    Args:
        value: A plain value, list, tuple or dict from a config.
        argument: The argument that it is given for.

    Returns:
        The expected type, such as "int or None"; None if the value matches, or if the type is unknown.
    """
    if argument.annotation is not MISSING:
        return None if fits(value, argument.annotation) else describe(argument.annotation)
    # Without an annotation, the default distinguishes numbers, strings and bools.
    if value is None or not isinstance(value, _PLAIN):
        return None
    for kind in (bool, str):
        if isinstance(argument.default, kind) and not isinstance(value, kind):
            return describe(kind)
    if isinstance(argument.default, int | float) and not _is_number(value) and not isinstance(argument.default, bool):
        return "a number"
    return None


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value in a config matches an annotation; True in case of doubt."""
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
    if kind is torch.Tensor:  # torch's optimizers accept tensors in place of numbers, which configs cannot hold
        return isinstance(value, torch.Tensor)
    # Objects of other classes are built from a dict(type=...), not from a plain value or a list.
    return isinstance(value, kind) or not isinstance(value, (*_PLAIN, list, tuple))


def describe(annotation: Any) -> str:
    """Describes an annotation in words: "int or None", "list of float", "'a' or 'b'"."""
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
    """Finds the keys of a dict that is annotated as a TypedDict or dataclass.

    Args:
        annotation: Annotation of the dict's argument. Of a union, the first TypedDict or dataclass is used.

    Returns:
        The keys, or None if they are unknown.
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
        The arguments, and whether there are **kwargs.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # implemented in C without a signature
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


def _with_keywords(arguments: Arguments, function: Callable[..., Any], is_constructor: bool) -> Arguments:
    """Adds the keys that a function looks up in its **kwargs, and whether it accepts any."""
    use = keyword_use(function)
    looked_up = {name: Argument() for name in sorted(use.names) if name not in arguments.known}
    is_open = use.unknown or (is_constructor and use.to_others)
    return Arguments({**arguments.known, **looked_up}, arguments.required, is_open)


def _opened(arguments: Arguments) -> Arguments:
    return dataclasses.replace(arguments, open=True)


def _hints(target: Any) -> dict[str, Any]:
    target = inspect.unwrap(target) if callable(target) else target
    try:
        return typing.get_type_hints(target)
    except Exception:  # annotations that only a type checker resolves, such as names imported under TYPE_CHECKING
        return _resolvable_hints(target)


def _resolvable_hints(target: Any) -> dict[str, Any]:
    """Resolves each annotation separately and omits those that cannot be resolved."""
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
