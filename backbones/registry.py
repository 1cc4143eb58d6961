"""Which models there are, how each is built, and what was published for it.

A family is a module of this package, or a folder of modules. It holds `default_cfgs`, one `PretrainedCfg` a checkpoint,
and one function a model, decorated with `register_model`. Nothing else has to be told of a new family: the functions
here import every family the first time that they are asked.

Plain Python: neither torch, timm nor mmengine is imported here.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ..names import unknown_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's training images, RGB, pixel values in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's training images, RGB, pixel values in [0, 1]."""

UNTRAINED = "untrained"
"""Tag of a model for which no weights were published."""

_PACKAGE = __name__.rpartition(".")[0]
_SHARED_MODULES = {"common", "registry"}


@dataclasses.dataclass(frozen=True)
class PretrainedCfg:
    """One published checkpoint of a model, and how images are prepared for it.

    Attributes:
        url: link to the official file; None where there is none.
        hf_hub_id: repository on the Hugging Face hub with the same weights, "owner/name".
        hf_hub_filename: file in that repository; None lets the loader look for the usual ones.
        file: path of a local file, which goes before `url` and `hf_hub_id`.
        sha256: checksum of the file behind `url`, hexadecimal, or its first characters; None where it is not known.
        architecture: name of the entry point; `register_model` fills it in.
        tag: what follows the dot in "name.tag"; `register_model` fills it in.
        num_classes: classes that the checkpoint's head tells apart.
        input_size: channels, height and width in pixels that the checkpoint was trained or evaluated with.
        fixed_input_size: True where the model takes no other size.
        crop_pct: side of the central crop over the side of the resized image, for evaluation.
        crop_mode: timm's crop mode.
        interpolation: timm's name of the interpolation.
        mean: per channel, pixel values in [0, 1].
        std: per channel, pixel values in [0, 1].
        first_conv: our name of the layer that sees the image, without ".weight".
        classifier: our name of the classifier, without ".weight".
        pool_size: height and width of the last feature map at `input_size`.
        license: SPDX identifier, lower case as timm has them, or a sentence.
        test_input_size: a larger size that the weights were published to be better at; None where there is none.
        test_crop_pct: `crop_pct` at that size.
        top1: published top-1 accuracy on ImageNet-1K's validation set in percent, at `test_input_size` where there is
            one, else at `input_size`; None where none was published.
        paper: title.
        paper_url: where to read it.
        origin_url: where the official code is.
        params: parameters with a head of 1000 classes.
        macs: multiply-accumulates of one image at `input_size`, in billions.
        verified: False while nobody has opened the link or the hub's id: then they may not be right.
        broken: True where users report that the link does not work any more.
        note: what else a user should know.
    """

    url: str | None = None
    hf_hub_id: str | None = None
    hf_hub_filename: str | None = None
    file: str | None = None
    sha256: str | None = None
    architecture: str | None = None
    tag: str | None = None
    num_classes: int = 1000
    input_size: tuple[int, int, int] = (3, 224, 224)
    fixed_input_size: bool = False
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    first_conv: str | tuple[str, ...] | None = None
    classifier: str | tuple[str, ...] | None = "head.fc"
    pool_size: tuple[int, int] | None = None
    license: str | None = None
    test_input_size: tuple[int, int, int] | None = None
    test_crop_pct: float | None = None
    top1: float | None = None
    paper: str | None = None
    paper_url: str | None = None
    origin_url: str | None = None
    params: int | None = None
    macs: float | None = None
    verified: bool = True
    broken: bool = False
    note: str | None = None

    @property
    def has_weights(self) -> bool:
        """Whether a checkpoint was published."""
        return bool(self.url or self.hf_hub_id or self.file)

    def to_dict(self) -> dict[str, Any]:
        """Gives the fields under the names that timm's data configuration and weight loading read; None is left out.

        `first_conv`, `classifier` and `pool_size` stay even where they are None, because timm looks them up by key.
        """
        kept = {"first_conv", "classifier", "pool_size"}
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None or field.name in kept
        }


@dataclasses.dataclass
class _Entry:
    """What is known of one registered model."""

    family: str
    build: Callable[..., Any]
    cfgs: dict[str, PretrainedCfg]


_entries: dict[str, _Entry] = {}


def _family_of(module_name: str) -> str:
    """Names a module's family: its place below `backbones`, or its own last name outside of this package."""
    package = f"{_PACKAGE}."
    if module_name.startswith(package):
        return module_name[len(package) :].split(".")[0]
    return module_name.split(".")[-1]


def register_model(build: Callable[..., Any]) -> Callable[..., Any]:
    """Registers an entry point under its own name, with the checkpoints that its module's `default_cfgs` has for it.

    The entry point's models carry the default checkpoint's configuration as `pretrained_cfg` and `default_cfg`, and the
    arguments that they were built with as `model_args`.

    Args:
        build: takes keyword arguments only and returns the model, with random weights.

    Returns:
        The entry point to leave in the module. It raises a ValueError for an argument that neither it nor the class in
        its return annotation has.

    Raises:
        ValueError: the name is taken, or `default_cfgs` has nothing for it (where nothing is published it needs
            "name.untrained").
    """
    name = build.__name__
    module = sys.modules[build.__module__]
    if name in _entries and _entries[name].build.__module__ != build.__module__:
        raise ValueError(f"The model {name!r} is registered already, by {_entries[name].build.__module__}.")
    cfgs = {}
    for key, cfg in module.default_cfgs.items():
        key_name, tag = split_model_name_tag(key)
        if key_name == name:
            if not tag:
                raise ValueError(f"The key {key!r} of default_cfgs needs a tag, as in '{name}.in1k'.")
            cfgs[tag] = dataclasses.replace(cfg, architecture=name, tag=tag)
    if not cfgs:
        raise ValueError(f"default_cfgs of {build.__module__} has nothing for {name!r}: add '{name}.{UNTRAINED}'.")
    default = next(iter(cfgs.values()))

    @functools.wraps(build)
    def entry_point(**kwargs: Any) -> Any:
        known = _arguments_of(build)
        for key in kwargs:
            if known is not None and key not in known:
                raise ValueError(unknown_name(f"argument of {name}", key, known))
        model = build(**kwargs)
        model.pretrained_cfg = default.to_dict()
        model.default_cfg = model.pretrained_cfg
        model.model_args = dict(kwargs)
        return model

    _entries[name] = _Entry(_family_of(build.__module__), entry_point, cfgs)
    return entry_point


def model_arguments(name: str) -> frozenset[str] | None:
    """Names the arguments that a model takes, as far as signatures tell.

    Args:
        name: of a model, without a tag.

    Returns:
        Those of its entry point and of the class that it builds; None where any name may be given.

    Raises:
        ValueError: there is no such model.
    """
    return _arguments_of(inspect.unwrap(_entry(name).build))


@functools.cache
def _arguments_of(build: Callable[..., Any]) -> frozenset[str] | None:
    """Names the arguments of an entry point and of the class it returns; None where any name may be given."""
    names: set[str] = set()
    function = build
    while True:
        parameters = inspect.signature(function).parameters.values()
        names |= {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            return frozenset(names)
        made = typing.get_type_hints(build).get("return") if function is build else None
        if not inspect.isclass(made):
            return None
        function = made


@functools.cache
def _import_families() -> None:
    """Imports every family of this package, so that its models are registered."""
    package = sys.modules[_PACKAGE]
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _SHARED_MODULES:
            importlib.import_module(f"{_PACKAGE}.{module.name}")


def _entry(name: str) -> _Entry:
    """Finds a model by its name without a tag; raises ValueError with the nearest names."""
    _import_families()
    if name not in _entries:
        raise ValueError(unknown_name("model", name, _entries))
    return _entries[name]


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Sorts "stage2" before "stage10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def split_model_name_tag(name: str) -> tuple[str, str]:
    """Splits "nat_mini.in1k" into ("nat_mini", "in1k"); the tag is empty where there is none."""
    name, _, tag = name.partition(".")
    return name, tag


def list_families() -> list[str]:
    """Names the families, in alphabetical order."""
    _import_families()
    return sorted({entry.family for entry in _entries.values()})


def list_models(pattern: str = "*", *, pretrained: bool = False, family: str | None = None) -> list[str]:
    """Names the models, in natural order.

    Args:
        pattern: shell wildcards, e.g. "nat_*"; matched against the name, and with `pretrained` also against "name.tag".
        pretrained: name every published checkpoint instead, as "name.tag".
        family: only models of this family.

    Raises:
        ValueError: there is no such family.
    """
    _import_families()
    if family is not None and family not in list_families():
        raise ValueError(unknown_name("family", family, list_families()))
    names = []
    for name, entry in _entries.items():
        if family is not None and entry.family != family:
            continue
        if not pretrained:
            names += [name] if fnmatch.fnmatchcase(name, pattern) else []
            continue
        tagged = {f"{name}.{tag}" for tag, cfg in entry.cfgs.items() if cfg.has_weights}
        names += tagged if fnmatch.fnmatchcase(name, pattern) else fnmatch.filter(tagged, pattern)
    return sorted(names, key=_natural_order)


def is_model(name: str) -> bool:
    """Says whether there is a model "name", or a checkpoint "name.tag"."""
    _import_families()
    name, tag = split_model_name_tag(name)
    return name in _entries and (not tag or tag in _entries[name].cfgs)


def model_entrypoint(name: str) -> Callable[..., Any]:
    """Finds the function that builds a model.

    Args:
        name: "name" or "name.tag"; the tag must exist and changes nothing.

    Raises:
        ValueError: there is no such model or tag.
    """
    get_pretrained_cfg(name)
    return _entry(split_model_name_tag(name)[0]).build


def get_pretrained_cfg(name: str) -> PretrainedCfg:
    """Finds what was published for a model.

    Args:
        name: "name" for its default checkpoint, or "name.tag".

    Raises:
        ValueError: there is no such model or tag.
    """
    name, tag = split_model_name_tag(name)
    cfgs = _entry(name).cfgs
    if not tag:
        return next(iter(cfgs.values()))
    if tag not in cfgs:
        raise ValueError(unknown_name(f"tag of {name}", tag, cfgs))
    return cfgs[tag]


def get_tags(name: str) -> list[str]:
    """Lists a model's tags, its default first.

    Raises:
        ValueError: there is no such model.
    """
    return list(_entry(name).cfgs)


def checkpoint_filter(model: Any) -> Callable[..., dict[str, Any]]:
    """Finds the function that turns any published form of a model's checkpoints into the model's own names.

    Args:
        model: a backbone, or the `FeatureMaps` around one.

    Returns:
        `filter(state_dict, model)`, idempotent; `model` may be left out. It does not change its argument.

    Raises:
        ValueError: the model is of no family that has a `checkpoint_filter_fn`.
    """
    method = getattr(model, "filter_checkpoint", None)
    if method is not None:
        return lambda state_dict, model=model: model.filter_checkpoint(state_dict)
    for cls in type(model).__mro__:
        module_name = cls.__module__
        while module_name.startswith(f"{_PACKAGE}."):
            function = getattr(sys.modules.get(module_name), "checkpoint_filter_fn", None)
            if function is not None:
                return _with_default_model(function, model)
            module_name = module_name.rpartition(".")[0]
    raise ValueError(f"{type(model).__name__} is no backbone of this package: nothing is known of its checkpoints.")


def _with_default_model(function: Callable[..., dict[str, Any]], default: Any) -> Callable[..., dict[str, Any]]:
    """Lets the second argument of a checkpoint filter be left out."""

    def checkpoint_filter_of_model(state_dict: Mapping[str, Any], model: Any = default) -> dict[str, Any]:
        return function(state_dict, model)

    return checkpoint_filter_of_model
