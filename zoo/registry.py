"""The registries of the zoo (scope `attnzoo`), which map type names in configs to classes and functions.

They are children of mmengine's root registries, so that a Runner with `default_scope="attnzoo"` searches the zoo's
types first and then those of mmengine. They differ from mmengine's registries in three ways:

- An unknown type raises a `ValueError` with the nearest matches (mmengine: a `KeyError` without).
- They build in their own scope, independent of the current default scope.
- Every backbone is a type of `MODELS` (`dict(type="nat_mini", num_classes=10)`, also with a weight tag,
  `"nat_mini.in1k"`) and goes through `create_model`, so that `pretrained=True` and `checkpoint_path=...` work there.

The modules that register types are imported by the first lookup, not with this module.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

import mmengine.registry as roots
from mmengine.registry import DefaultScope

from ..names import unknown_name

SCOPE = "attnzoo"
"""Scope of these registries, and `default_scope` of the zoo's configs."""

# With a default scope, mmengine imports `<scope>.registry` and warns at every build if that fails.
sys.modules.setdefault(f"{SCOPE}.registry", sys.modules[__name__])


class Registry(roots.Registry):
    """A registry with scope `attnzoo`, a child of one of mmengine's root registries.

    Args:
        name: What is registered, in the singular, for messages: "hook", "dataset".
        parent: mmengine's root registry.
        packages: Packages in `zoo/` that register types here.
        in_own_scope: Build with `attnzoo` as mmengine's default scope. Disabled for runners, which set it
            themselves.
    """

    def __init__(self, name: str, parent: roots.Registry, packages: Iterable[str], in_own_scope: bool = True) -> None:
        # mmengine's own types are registered by the modules that its runner imports.
        locations = ["mmengine.runner", *(f"{__package__}.{package}" for package in packages)]
        super().__init__(name, parent=parent, scope=SCOPE, locations=locations)
        self._in_own_scope = in_own_scope

    def __contains__(self, key: str) -> bool:
        try:
            self.get(key)
        except ValueError:
            return False
        return True

    def names(self) -> list[str]:
        """Returns all registered names, those of mmengine included."""
        self.import_from_location()
        found: set[str] = set()
        registry: roots.Registry | None = self
        while registry is not None:
            found.update(registry.module_dict)
            registry = registry.parent
        return sorted(found)

    def get(self, key: str | Callable[..., Any]) -> Any:
        """Returns a registered class or function.

        Args:
            key: Its name, with or without the scope ("attnzoo.Accuracy"), an import path ("package.module.Class"), or
                a class or function, which need not be registered.

        Raises:
            ValueError: There is no such name; the message has the nearest matches.
        """
        if not isinstance(key, str):
            if inspect.isclass(key) or inspect.isroutine(key):
                return key
            raise ValueError(f"The type of a {self.name} must be a registered name or a class, got {key!r}.")
        plain = key.removeprefix(f"{self.scope}.")
        self.import_from_location()
        if "." not in plain:
            registry: roots.Registry | None = self
            while registry is not None:
                if plain in registry.module_dict:
                    return registry.module_dict[plain]
                registry = registry.parent
            raise ValueError(unknown_name(self.name, plain, self.names()))
        try:
            found = super().get(key)
        except (RuntimeError, ImportError, AttributeError):
            found = None
        if found is None:
            raise ValueError(unknown_name(self.name, key, self.names()))
        return found

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Builds an object from a config.

        Args:
            cfg: A dict with "type", a registered name, and the arguments.
            *args: Forwarded to mmengine's build function.
            **kwargs: Forwarded to mmengine's build function, such as `default_args`.

        Raises:
            ValueError: There is no "type", or no such name.
        """
        if isinstance(cfg, dict) and "type" not in cfg and "type" not in (kwargs.get("default_args") or {}):
            raise ValueError(f"The config of a {self.name} needs the key 'type', got the keys {sorted(cfg)}.")
        current = DefaultScope.get_current_instance()
        if not self._in_own_scope or (current is not None and current.scope_name == self.scope):
            return super().build(cfg, *args, **kwargs)
        with DefaultScope.overwrite_default_scope(self.scope):
            return super().build(cfg, *args, **kwargs)


def type_name(kind: Any) -> str:
    """Returns the name of a config's `type`, which is a name, with or without the scope, or a class or function."""
    return kind.removeprefix(f"{SCOPE}.") if isinstance(kind, str) else getattr(kind, "__name__", repr(kind))


@functools.cache
def _backbone_builder(name: str) -> Callable[..., Any]:
    """Returns the function that builds a backbone from its config: `create_model` with its name."""

    def build_backbone(**kwargs: Any) -> Any:
        from .factory import create_model

        return create_model(name, **kwargs)

    build_backbone.__name__ = build_backbone.__qualname__ = name.replace(".", "_")
    build_backbone.__doc__ = f"Creates the backbone {name}."
    return build_backbone


class ModelRegistry(Registry):
    """`MODELS`: tasks, heads, losses and preprocessors by class name, and backbones by entry point."""

    def names(self) -> list[str]:
        """Returns all registered names, backbones included."""
        from ..backbones.registry import list_models

        return sorted({*super().names(), *list_models()})

    def get(self, key: str | Callable[..., Any]) -> Any:
        """Returns a registered class or function, or a function that builds a backbone.

        Args:
            key: A registered name, that of a backbone with or without a weight tag ("nat_mini.in1k"), or a class or
                function.

        Raises:
            ValueError: There is no such name; the message has the nearest matches.
        """
        if isinstance(key, str) and self.is_backbone(key):
            from ..backbones.registry import get_pretrained_cfg

            name = key.removeprefix(f"{self.scope}.")
            get_pretrained_cfg(name)  # raises if there is no such tag
            return _backbone_builder(name)
        return super().get(key)

    def is_backbone(self, key: str) -> bool:
        """Whether a name is that of a backbone, with or without the scope and a weight tag, which may not exist."""
        from ..backbones.registry import is_model, split_model_name_tag

        return is_model(split_model_name_tag(key.removeprefix(f"{self.scope}."))[0])


class AlbumentationsRegistry(Registry):
    """`ALBUMENTATIONS`: albumentations' transforms by their class names ("HueSaturationValue", "OneOf").

    Albumentations takes seconds to import, so the first lookup imports it.
    """

    def names(self) -> list[str]:
        """Returns the names of all transforms."""
        return sorted(self._classes())

    def get(self, key: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # classes have no place here
        """Returns the class of a transform.

        Raises:
            ValueError: There is no such transform; the message has the nearest matches.
        """
        found = self._classes().get(key) if isinstance(key, str) else None
        if found is None:
            raise ValueError(unknown_name(self.name, key, self.names()))
        return found

    def _classes(self) -> dict[str, type]:
        from .data.common.albumentations import transform_types

        return transform_types()


MODELS = ModelRegistry("model", roots.MODELS, ["tasks"])
DATASETS = Registry("dataset", roots.DATASETS, ["data"])
DATA_SAMPLERS = Registry("sampler", roots.DATA_SAMPLERS, ["data"])
TRANSFORMS = Registry("transform", roots.TRANSFORMS, ["data"])
FUNCTIONS = Registry("function", roots.FUNCTIONS, ["data"])
METRICS = Registry("metric", roots.METRICS, ["evaluation"])
EVALUATORS = Registry("evaluator", roots.EVALUATOR, [])
HOOKS = Registry("hook", roots.HOOKS, ["data", "training"])
LOOPS = Registry("loop", roots.LOOPS, ["training"])
OPTIMIZERS = Registry("optimizer", roots.OPTIMIZERS, ["training"])
OPTIM_WRAPPERS = Registry("optimizer wrapper", roots.OPTIM_WRAPPERS, ["training"])
OPTIM_WRAPPER_CONSTRUCTORS = Registry("optimizer constructor", roots.OPTIM_WRAPPER_CONSTRUCTORS, ["training"])
PARAM_SCHEDULERS = Registry("schedule", roots.PARAM_SCHEDULERS, ["training"])
MODEL_WRAPPERS = Registry("model wrapper", roots.MODEL_WRAPPERS, ["training"])
LOG_PROCESSORS = Registry("log processor", roots.LOG_PROCESSORS, ["training"])
VISUALIZERS = Registry("visualizer", roots.VISUALIZERS, [])
VISUALIZER_BACKENDS = Registry("visualizer backend", roots.VISBACKENDS, [])
RUNNERS = Registry("runner", roots.RUNNERS, ["training"], in_own_scope=False)
ALBUMENTATIONS = AlbumentationsRegistry("albumentations transform", roots.Registry("albumentations transform"), [])
