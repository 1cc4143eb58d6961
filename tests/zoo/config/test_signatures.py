"""Arguments of what a config names, and whether a config's values fit them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
import torch
from torch import nn

from attnzoo.zoo.config.signatures import MISSING, Argument, arguments_of, describe, fits, keys_of, misfit


class Grandparent:
    def __init__(self, first: int, second: str = "b") -> None: ...


class Parent(Grandparent):
    def __init__(self, third: float = 1.0, **kwargs) -> None: ...


class Child(Parent):
    def __init__(self, fourth: bool, **kwargs) -> None: ...


class NoConstructor(Child): ...


class Layer(nn.Module):
    def __init__(self, dim: int, **kwargs) -> None: ...


def makes_child(fifth: int = 5, **kwargs) -> Child: ...  # pyright: ignore[reportReturnType]


def forwards_somewhere(given: int, **kwargs): ...


def takes_no_more(given: int): ...


@pytest.mark.parametrize("cls", [Child, NoConstructor])
def test_keyword_arguments_are_followed_to_the_parents(cls: type):
    arguments = arguments_of(cls)
    assert set(arguments.known) == {"first", "second", "third", "fourth"}
    assert arguments.known["first"].annotation is int
    assert arguments.required == {"fourth"}  # what a parent requires, the child may give itself
    assert not arguments.open


def test_keyword_arguments_of_a_function_go_to_what_it_returns():
    arguments = arguments_of(makes_child)
    assert set(arguments.known) == {"first", "second", "third", "fourth", "fifth"}
    assert not arguments.open


def test_keyword_arguments_that_go_somewhere_unknown_allow_anything():
    assert arguments_of(forwards_somewhere).open
    assert not arguments_of(takes_no_more).open


def test_a_module_forwards_nothing_to_torch():
    assert set(arguments_of(Layer).known) == {"dim"}
    assert not arguments_of(Layer).open


class PoppingHead(nn.Module):
    def __init__(self, dim: int, **kwargs: Any) -> None:
        self.scale = kwargs.pop("scale", 1)
        super().__init__(**kwargs)


class WrappingHead(nn.Module):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.inner = PoppingHead(**kwargs)


def sets_attributes(**kwargs: Any) -> Child:
    made = Child(True)
    for name, value in kwargs.items():
        setattr(made, name, value)
    return made


def test_keys_that_are_popped_are_arguments():
    arguments = arguments_of(PoppingHead)
    assert set(arguments.known) == {"dim", "scale"}
    assert arguments.required == {"dim"}
    assert not arguments.open


@pytest.mark.parametrize("target", [WrappingHead, sets_attributes])
def test_keyword_arguments_that_are_used_otherwise_allow_anything(target: Callable[..., Any]):
    assert arguments_of(target).open


def test_torch_optimizers_and_schedules_are_known_in_full():
    assert {"lr", "betas", "weight_decay"} <= set(arguments_of(torch.optim.AdamW).known)
    from mmengine.optim import CosineAnnealingLR

    arguments = arguments_of(CosineAnnealingLR)
    assert {"T_max", "eta_min", "begin", "end", "by_epoch"} <= set(arguments.known)
    assert not arguments.open


class Options(TypedDict, total=False):
    alpha: float


@dataclasses.dataclass
class Settings:
    size: int
    name: str = "a"


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, int),
        (3, float),
        (0.5, float),
        (None, int | None),
        ("auto", bool | Literal["auto"]),
        ([1, 2], Sequence[int]),
        ((1, 2), list[int]),
        ([1, [2, 3]], int | Sequence[int | Sequence[int]]),
        ([0.9, 0.99], tuple[float, float]),
        ([1, 2, 3], tuple[int, ...]),
        ({"a": 1}, dict[str, int]),
        ({"type": "GELU"}, type[nn.Module]),
        ({"type": "GELU"}, nn.Module),
        ({"type": "default_collate"}, Callable[..., Any]),
        ("/somewhere", str | Path),
        ("anything", Any),
        (0.5, "Unresolved"),
        ({"alpha": 0.1}, Options),
        ({"size": 1}, Settings | None),
    ],
)
def test_right_values_fit(value: object, annotation: object):
    assert fits(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation", "said"),
    [
        ("3", int, "int"),
        (3.0, int, "int"),
        (True, int, "int"),
        (1, bool, "bool"),
        ("0.1", float, "float"),
        (True, float, "float"),
        (3, str, "str"),
        (None, int, "int"),
        ("many", int | None, "int or None"),
        ("auta", bool | Literal["auto"], "bool or 'auto'"),
        ("ab", Sequence[int], "list of int"),
        ([1, "2"], list[int], "list of int"),
        ([0.9], tuple[float, float], "list (float, float)"),
        (3, tuple[int, ...], "list of int"),
        (3, dict[str, int], "dict"),
        (3, nn.Module, "Module"),
        ([1], Options, "dict"),
    ],
)
def test_wrong_values_do_not_fit(value: object, annotation: object, said: str):
    assert not fits(value, annotation)
    assert describe(annotation) == said


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        ("3", 3, "a number"),
        (True, 3, "a number"),
        (1, True, "bool"),
        (1, "a", "str"),
        (0.5, 3, None),
        (None, 3, None),
        ([1], 3, None),
        (1, None, None),
        (1, MISSING, None),
    ],
)
def test_without_an_annotation_the_default_tells_the_kind(value: object, default: object, expected: str | None):
    assert misfit(value, Argument(default=default)) == expected


def test_keys_of_dicts_come_from_typed_dicts_and_dataclasses():
    options, settings = keys_of(Options | None), keys_of(Settings | None)
    assert options is not None
    assert set(options.known) == {"alpha"}
    assert options.known["alpha"].annotation is float
    assert settings is not None
    assert settings.required == {"size"}
    assert keys_of(dict[str, int]) is None
