"""The registry of models: how each is built and which checkpoints were published for it.

A family is a module or a folder beside this file; `common` holds what families share. It defines `default_cfgs`, with
one `PretrainedCfg` per checkpoint, and one entry point per model, decorated with `register_model`. There is no list of
families: the functions here import all of them on first use. Modules outside this package register models the same
way, with `attnzoo.register_model`.

This module imports neither torch, timm nor mmengine.
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
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..names import unknown_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Per-channel mean (RGB) of the ImageNet training images, for pixel values in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per-channel standard deviation (RGB) of the ImageNet training images, for pixel values in [0, 1]."""

UNTRAINED = "untrained"
"""Tag of models without published weights."""

_PACKAGE, _, _OWN_NAME = __name__.rpartition(".")


@dataclasses.dataclass(frozen=True)
class PretrainedCfg:
    """One published checkpoint of a model, and how images are preprocessed for it.

    Attributes:
        url: URL of the official file.
        hf_hub_id: Hugging Face Hub repository with the same weights, "owner/name".
        hf_hub_filename: File in that repository; None to try the usual names.
        file: Path of a local file, which takes precedence over `url` and `hf_hub_id`.
        sha256: Hexadecimal checksum of the file at `url`, or its first characters.
        architecture: Name of the entry point, set by `register_model`.
        tag: What follows the dot in "name.tag", set by `register_model`.
        num_classes: Number of classes of the checkpoint's head.
        input_size: Channels, height and width in pixels that the checkpoint was trained or evaluated with.
        fixed_input_size: Whether the model takes no other size.
        crop_pct: Side of the center crop relative to the side of the resized image, for evaluation.
        crop_mode: timm's crop mode.
        interpolation: timm's name of the interpolation.
        mean: Per-channel mean for normalization, for pixel values in [0, 1].
        std: Per-channel standard deviation for normalization, for pixel values in [0, 1].
        first_conv: Our name of the input layer, without ".weight".
        classifier: Our name of the classifier, without ".weight".
        pool_size: Height and width of the last feature map at `input_size`.
        license: SPDX identifier in lower case, as in timm, or a sentence.
        test_input_size: Larger size at which the published accuracy of the weights is higher, if there is one.
        test_crop_pct: `crop_pct` at `test_input_size`.
        top1: Published top-1 accuracy on the ImageNet-1K validation set in percent, at `test_input_size` if it is set,
            otherwise at `input_size`.
        paper: Title of the paper.
        paper_url: URL of the paper.
        origin_url: URL of the official code.
        params: Number of parameters with a head of 1000 classes.
        macs: Multiply-accumulates of one image at `input_size`, in billions.
        verified: False as long as nobody has opened the URL or the Hub repository, which may then be wrong.
        broken: Whether users report that the URL no longer works.
        note: Anything else that users should know.
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
        """Whether there is a file to load."""
        return bool(self.url or self.hf_hub_id or self.file)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that are not None, under the names that timm's data configuration and weight loading read.

        `first_conv`, `classifier` and `pool_size` are always included, because timm looks them up by key.
        """
        kept = {"first_conv", "classifier", "pool_size"}
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None or field.name in kept
        }


@dataclasses.dataclass
class _Entry:
    """A registered model."""

    family: str
    build: Callable[..., Any]
    cfgs: dict[str, PretrainedCfg]


_entries: dict[str, _Entry] = {}


def _is_inside(module_name: str) -> bool:
    """Whether a module belongs to this package."""
    return module_name.startswith(f"{_PACKAGE}.")


def _family_of(module_name: str) -> str:
    """Returns the name of a module's family: its module or folder in this package, or outside of it its last name."""
    if _is_inside(module_name):
        return module_name.removeprefix(f"{_PACKAGE}.").split(".")[0]
    return module_name.split(".")[-1]


def register_model(build: Callable[..., Any]) -> Callable[..., Any]:
    """Registers an entry point under its own name, with its checkpoints in its module's `default_cfgs`.

    Models that the entry point builds have the configuration of the default checkpoint, the first one, as
    `pretrained_cfg` and `default_cfg`, and the arguments that they were built with as `model_args`.

    It works the same in a module outside this package, where `default_cfgs` may be omitted if nothing was published:

        @attnzoo.register_model
        def my_model_small(**kwargs) -> MyModel:
            return MyModel(**{"depths": (2, 2, 6, 2), **kwargs})

    The family is then the last part of the module's name. A `checkpoint_filter_fn(state_dict, model)` in the module
    converts published checkpoints to the model's own names; without one, only prefixes of wrappers are removed.

    Args:
        build: Function that takes keyword arguments only, `num_classes` and `in_chans` among them, and returns the
            model with random weights.

    Returns:
        The entry point that replaces `build` in the module. It raises a ValueError for an argument that neither `build`
        nor the class in its return annotation has.

    Raises:
        ValueError: The name is taken, or `default_cfgs` has no key for it ("name.untrained" if nothing was published).
    """
    name = build.__name__
    module = sys.modules[build.__module__]
    published = getattr(module, "default_cfgs", None)
    if published is None and not _is_inside(module.__name__):
        published = {f"{name}.{UNTRAINED}": PretrainedCfg()}
    if name in _entries and _entries[name].build.__module__ != build.__module__:
        raise ValueError(f"Model {name!r} is already registered by {_entries[name].build.__module__}.")
    cfgs = {}
    for key, cfg in (published or {}).items():
        key_name, tag = split_model_name_tag(key)
        if key_name == name:
            if not tag:
                raise ValueError(f"Keys of default_cfgs must have a tag, such as '{name}.in1k', got {key!r}.")
            cfgs[tag] = dataclasses.replace(cfg, architecture=name, tag=tag)
    if not cfgs:
        raise ValueError(f"default_cfgs of {build.__module__} has no key for {name!r}: add '{name}.{UNTRAINED}'.")
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
    """Returns the names of the arguments that a model takes, as far as signatures tell.

    Args:
        name: Name of the model, without a tag.

    Returns:
        The arguments of its entry point and of the class that it builds; None if any name may be given.

    Raises:
        ValueError: There is no such model.
    """
    return _arguments_of(inspect.unwrap(_entry(name).build))


@functools.cache
def _arguments_of(build: Callable[..., Any]) -> frozenset[str] | None:
    """Returns the arguments of an entry point and of the class that it builds; None if any name may be given."""
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
    """Imports all families of this package, which registers their models."""
    package = sys.modules[_PACKAGE]
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in (_OWN_NAME, "common"):
            importlib.import_module(f"{_PACKAGE}.{module.name}")


def _entry(name: str) -> _Entry:
    """Returns a model's entry by its name without a tag; raises a ValueError that suggests the closest names."""
    _import_families()
    if name not in _entries:
        raise ValueError(unknown_name("model", name, _entries))
    return _entries[name]


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key that puts "stage2" before "stage10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def split_model_name_tag(name: str) -> tuple[str, str]:
    """Splits "nat_mini.in1k" into ("nat_mini", "in1k"); the tag is empty if there is none."""
    name, _, tag = name.partition(".")
    return name, tag


def list_families() -> list[str]:
    """Returns the names of all families in alphabetical order."""
    _import_families()
    return sorted({entry.family for entry in _entries.values()})


def list_models(pattern: str = "*", *, pretrained: bool = False, family: str | None = None) -> list[str]:
    """Returns the names of models in natural order.

    Args:
        pattern: Shell-style wildcards, such as "nat_*", matched against the name, and with `pretrained` also against
            "name.tag".
        pretrained: Whether to return all published checkpoints instead, as "name.tag".
        family: Return only models of this family.

    Raises:
        ValueError: There is no such family.
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
    """Whether there is a model "name" or a checkpoint "name.tag"."""
    _import_families()
    name, tag = split_model_name_tag(name)
    return name in _entries and (not tag or tag in _entries[name].cfgs)


def model_entrypoint(name: str) -> Callable[..., Any]:
    """Returns the function that builds a model.

    Args:
        name: "name" or "name.tag". The tag must exist, but makes no difference.

    Raises:
        ValueError: There is no such model or tag.
    """
    get_pretrained_cfg(name)
    return _entry(split_model_name_tag(name)[0]).build


def get_pretrained_cfg(name: str) -> PretrainedCfg:
    """Returns the configuration of a published checkpoint.

    Args:
        name: "name" for the model's default checkpoint, or "name.tag".

    Raises:
        ValueError: There is no such model or tag.
    """
    name, tag = split_model_name_tag(name)
    cfgs = _entry(name).cfgs
    if not tag:
        return next(iter(cfgs.values()))
    if tag not in cfgs:
        raise ValueError(unknown_name(f"tag of {name}", tag, cfgs))
    return cfgs[tag]


def get_tags(name: str) -> list[str]:
    """Returns a model's tags, the default first.

    Raises:
        ValueError: There is no such model.
    """
    return list(_entry(name).cfgs)


def checkpoint_filter(model: Any) -> Callable[..., dict[str, Any]]:
    """Returns the function that converts any published form of a model's checkpoints to the model's own names.

    For a backbone without a `checkpoint_filter_fn`, this function only removes the prefixes of wrappers.

    Args:
        model: A backbone, or the `FeatureMaps` around one.

    Returns:
        `filter(state_dict, model)`, which is idempotent and does not modify its argument; `model` may be omitted.

    Raises:
        ValueError: The model is not a backbone.
    """
    method = getattr(model, "filter_checkpoint", None)
    if method is not None:
        return lambda state_dict, model=model: model.filter_checkpoint(state_dict)
    modules = list(_modules_of(model))
    if not modules:
        raise ValueError(
            f"{type(model).__name__} is not a backbone: it neither inherits from Backbone nor was built by a "
            "registered entry point, so the form of its checkpoints is unknown."
        )
    for module_name in modules:
        function = getattr(sys.modules.get(module_name), "checkpoint_filter_fn", None)
        if function is not None:
            return _with_default_model(function, model)
    from .common.checkpoints import strip_prefixes

    return _with_default_model(lambda state_dict, model: strip_prefixes(state_dict), model)


def _modules_of(model: Any) -> Iterator[str]:
    """Yields the names of the modules that may define a model's `checkpoint_filter_fn`, in the order of the search.

    These are, for a model that was registered from outside this package, the module of its entry point, and for all
    models the modules of this package that define its classes, and the packages around them.
    """
    cfg = getattr(model, "pretrained_cfg", None)
    entry = _entries.get(cfg.get("architecture", "")) if isinstance(cfg, Mapping) else None
    if entry is not None and not _is_inside(entry.build.__module__):
        yield entry.build.__module__
    for cls in type(model).__mro__:
        module_name = cls.__module__
        while _is_inside(module_name):
            yield module_name
            module_name = module_name.rpartition(".")[0]


def _with_default_model(function: Callable[..., dict[str, Any]], default: Any) -> Callable[..., dict[str, Any]]:
    """Makes the second argument of a checkpoint filter optional."""

    def checkpoint_filter_of_model(state_dict: Mapping[str, Any], model: Any = default) -> dict[str, Any]:
        return function(state_dict, model)

    return checkpoint_filter_of_model
