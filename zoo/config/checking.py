"""Checks all keys, types and arguments of a config before anything is built, and then whether its parts fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config

from ...names import unknown_name
from .. import registry as registries
from ..registry import MODELS, Registry, type_name
from .errors import ConfigError
from .sections import NESTED, SECTIONS, TOP_LEVEL_KEYS, Each, Keys, OneOrMore, Section, Typed
from .signatures import MISSING, Argument, Arguments, arguments_of, keys_of, misfit


def check_config(cfg: Config, paths: bool = True) -> None:
    """Checks a config as far as possible without reading data.

    Every key is checked against the signature of the constructor that gets it, and every plain value against its
    annotation. Then the parts are checked against each other: class counts, image sizes, schedule.

    Args:
        cfg: A config. It is not modified.
        paths: Also check that data sets and checkpoints exist.

    Raises:
        ConfigError: One line for each mistake, with the full dotted key and the nearest match.
    """
    checker = _Checker()
    plain = cfg.to_dict() if isinstance(cfg, Config) else dict(cfg)
    checker.top_level(plain)
    if not checker.problems:
        from .consistency import find_contradictions

        checker.problems.extend(find_contradictions(plain, paths=paths))
    if checker.problems:
        raise ConfigError("\n".join(_distinct(checker.problems)))


def _distinct(problems: Iterable[str]) -> list[str]:
    """Leaves out repeated problems, and those of test sections that the sections for validation have as well."""
    found = dict.fromkeys(problems)
    return [
        problem for problem in found if not (problem.startswith("test_") and problem.replace("test_", "val_") in found)
    ]


class _Checker:
    """Walks through a config and collects mistakes."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def top_level(self, cfg: Mapping[str, Any]) -> None:
        """Checks the complete config."""
        if not isinstance(cfg.get("model"), Mapping):
            self.problems.append("model: a config needs model=dict(type=...).")
        for key, value in cfg.items():
            if key not in SECTIONS:
                self.problems.append(f"{key}: " + unknown_name("top-level key", key, TOP_LEVEL_KEYS, max_listed=0))
            elif value is not None:
                self.section(key, value, SECTIONS[key])

    def section(self, where: str, value: Any, section: Section | Any) -> None:
        """Checks a value against its section, or against an annotation."""
        if isinstance(section, Typed):
            self.typed(where, value, section)
        elif isinstance(section, Keys):
            self.keys(where, value, section)
        elif isinstance(section, OneOrMore):
            for place, element in _elements(where, value) if isinstance(value, list | tuple) else [(where, value)]:
                self.section(place, element, section.of)
        elif isinstance(section, Each):
            if not isinstance(value, Mapping | list | tuple):
                self.problems.append(f"{where}: must be a dict or a list, got {value!r}.")
                return
            for place, element in _elements(where, value):
                kind = section.types.get(place.rpartition(".")[2])
                if isinstance(element, Mapping) and kind is not None:
                    element = {"type": kind, **element}
                if element is not None or not section.optional:
                    self.section(place, element, section.of)
        else:
            argument = section if isinstance(section, Argument) else Argument(section)
            self.value(where, value, argument)

    def keys(self, where: str, value: Any, section: Keys) -> None:
        """Checks a dict without a type."""
        if not isinstance(value, Mapping):
            self.problems.append(f"{where}: must be a dict, got {value!r}.")
            return
        for key in section.required:
            if key not in value:
                self.problems.append(f"{where}.{key}: is missing.")
        for key, inner in value.items():
            if key not in section.known:
                self.problems.append(f"{where}.{key}: " + unknown_name(f"key of {where}", key, section.known))
            elif inner is not None:
                self.section(f"{where}.{key}", inner, section.known[key])

    def typed(self, where: str, value: Any, section: Typed) -> None:
        """Checks a dict(type=...)."""
        if not isinstance(value, Mapping):
            self.problems.append(f"{where}: must be dict(type=...), got {value!r}.")
            return
        name = value.get("type", section.default)
        registry: Registry = getattr(registries, section.registry)
        if name is None:
            self.problems.append(f"{where}.type: is missing: the type of the {registry.name}.")
            return
        if not isinstance(value.get("_scope_"), str | None):
            self.problems.append(f"{where}._scope_: must be the name of a scope, got {value['_scope_']!r}.")
            return
        try:
            target = registry.get(name)
        except ValueError as error:
            self.problems.append(f"{where}.type: {error}")
            return
        arguments = backbone_arguments(name) if _is_backbone(registry, name) else arguments_of(target)
        name = type_name(name)
        supplied = {*section.supplied, *(list(arguments.known)[:1] if section.called else ())}
        given = {key: inner for key, inner in value.items() if key not in ("type", "_scope_")}
        for key, inner in given.items():
            place = f"{where}.{key}"
            if key in section.extra:
                self.section(place, inner, section.extra[key]) if inner is not None else None
            elif key in supplied:
                self.problems.append(f"{place}: is set by the Runner. Leave it out.")
            elif key in arguments.known:
                filled = getattr(target, "filled_arguments", {}).get(key, ())
                self.value(place, inner, arguments.known[key], name=key, near=registry, filled=filled)
            elif arguments.open:
                self.value(place, inner, Argument(), name=key, near=registry)
            else:
                allowed = {"type", *arguments.known, *section.extra} - supplied
                self.problems.append(f"{place}: " + unknown_name(f"argument of {name}", key, allowed))
        for key in sorted(arguments.required - {*given, *supplied, *section.filled}):
            self.problems.append(f"{where}.{key}: is missing, but {name} requires it.")

    def value(
        self,
        where: str,
        value: Any,
        argument: Argument,
        name: str | None = None,
        near: Registry | None = None,
        filled: tuple[str, ...] = (),
    ) -> None:
        """Checks the value of an argument, and everything inside it.

        Args:
            where: Full dotted key.
            value: The value.
            argument: The argument's annotation and default.
            name: Name of the argument, which may determine the registry of a dict(type=...).
            near: The owner's registry, which is searched first if the name does not determine one.
            filled: Arguments of a dict(type=...) that its owner fills in.
        """
        if argument.default is not MISSING and _same(value, argument.default):
            return
        expected = misfit(value, argument)
        if expected is not None:
            self.problems.append(f"{where}: must be {expected}, got {value!r}.")
        elif isinstance(value, Mapping) and ("type" in value or isinstance(NESTED.get(name or ""), Keys)):
            section = NESTED.get(name or "") or dataclasses.replace(_guess_section(value["type"], near), filled=filled)
            self.section(where, value, section)
        elif isinstance(value, Mapping):
            self.mapping(where, value, argument, near)
        elif isinstance(value, list | tuple):
            for place, element in _elements(where, value):
                if isinstance(element, Mapping | list | tuple):
                    self.value(place, element, Argument(), name=name, near=near)

    def mapping(self, where: str, value: Mapping[str, Any], argument: Argument, near: Registry | None) -> None:
        """Checks a dict without a type; the annotation of its argument may define its keys."""
        known: Arguments | None = keys_of(argument.annotation)
        for key, inner in value.items():
            place = f"{where}.{key}"
            if known is None or known.open:
                self.value(place, inner, Argument(), name=str(key), near=near)
            elif key in known.known:
                self.value(place, inner, known.known[key], name=str(key), near=near)
            else:
                self.problems.append(f"{place}: " + unknown_name(f"key of {where}", key, known.known))
        for key in sorted(known.required - set(value)) if known is not None else ():
            self.problems.append(f"{where}.{key}: is missing.")


def backbone_arguments(name: str) -> Arguments:
    """Returns the arguments of a backbone in a config: those of `create_model` and of the model's constructor.

    Args:
        name: "nat_mini" or "nat_mini.in1k".
    """
    from ...backbones.registry import model_entrypoint
    from ..factory import create_model

    factory, entry = (
        arguments_of(create_model),
        arguments_of(model_entrypoint(name.removeprefix(f"{registries.SCOPE}."))),
    )
    known = {key: argument for key, argument in factory.known.items() if key != "model_name"}
    return Arguments({**entry.known, **known}, open=entry.open)


def _is_backbone(registry: Registry, name: Any) -> bool:
    return registry is MODELS and isinstance(name, str) and MODELS.is_backbone(name)


def _guess_section(name: Any, near: Registry | None) -> Typed:
    """Returns the section of the registry that has a type; the owner's registry is searched first."""
    every = [value for value in vars(registries).values() if isinstance(value, Registry)]
    for candidate in [near, *every] if near is not None else every:
        if candidate is not None and name in candidate:
            return Typed(_variable(candidate))
    return Typed(_variable(near or MODELS))


def _variable(registry: Registry) -> str:
    return next(key for key, value in vars(registries).items() if value is registry)


def _elements(where: str, value: Mapping[str, Any] | Iterable[Any]) -> list[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    return [(f"{where}.{key}", element) for key, element in pairs]


def _same(value: Any, default: Any) -> bool:
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:  # arrays and the like compare element by element
        return False
