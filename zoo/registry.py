"""The zoo's own registries (scope `attnzoo`): names in a config and what they build.

They are children of mmengine's root registries, so that a Runner with `default_scope="attnzoo"` finds the zoo's types
first and mmengine's after them. Three things differ from mmengine's registries:

- An unknown type raises a `ValueError` with the nearest right names, whoever asked (mmengine: `KeyError`, no hint).
- They build in their own scope, whatever the current default scope is.
- Every backbone is a type of `MODELS` (`dict(type="nat_mini", num_classes=10)`, also with a weight tag,
  `"nat_mini.in1k"`) and goes through `create_model`, so that `pretrained=True` and `checkpoint_path=...` work there.

Importing this module imports none of the modules that register something; the first look-up of a type does.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

import mmengine.registry as roots
from mmengine.registry import DefaultScope

from ..names import unknown_name

SCOPE = "attnzoo"
"""The scope of all registries here: the `default_scope` of the zoo's configs."""

# A build with a default scope makes mmengine import `<scope>.registry`, and warn on every build where that fails.
sys.modules.setdefault(f"{SCOPE}.registry", sys.modules[__name__])


class Registry(roots.Registry):
    """A registry of scope `attnzoo` below one of mmengine's root registries.

    Args:
        name: what the registered things are, in the singular, for messages: "hook", "dataset".
        parent: mmengine's root registry of the same things.
        rooms: the packages in `zoo/` that register here.
        in_own_scope: build with `attnzoo` as mmengine's default scope, whatever that is outside. Off for runners, which
            set the default scope themselves while they are built.
    """

    def __init__(self, name: str, parent: roots.Registry, rooms: Iterable[str], in_own_scope: bool = True) -> None:
        # mmengine's own types are registered by the modules that its runner imports.
        locations = ["mmengine.runner", *(f"{__package__}.{room}" for room in rooms)]
        super().__init__(name, parent=parent, scope=SCOPE, locations=locations)
        self._in_own_scope = in_own_scope

    def __contains__(self, key: str) -> bool:
        try:
            self.get(key)
        except ValueError:
            return False
        return True

    def names(self) -> list[str]:
        """All registered names, the zoo's own and mmengine's."""
        self.import_from_location()
        found: set[str] = set()
        registry: roots.Registry | None = self
        while registry is not None:
            found.update(registry.module_dict)
            registry = registry.parent
        return sorted(found)

    def get(self, key: str) -> Any:
        """Finds a registered class or function.

        Args:
            key: its name, with or without the scope ("attnzoo.Accuracy"), or an import path ("package.module.Class").

        Raises:
            ValueError: nothing has that name; the message names the nearest.
        """
        if not isinstance(key, str):
            raise ValueError(f"The type of a {self.name} is a name, not {key!r}.")
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
        """Builds from a config.

        Args:
            cfg: a dict with "type" (a registered name) and the arguments.
            *args: passed on to mmengine's build function.
            **kwargs: passed on to mmengine's build function, such as `default_args`.

        Raises:
            ValueError: there is no "type", or nothing has that name.
        """
        if isinstance(cfg, dict) and "type" not in cfg and "type" not in (kwargs.get("default_args") or {}):
            raise ValueError(f"A {self.name} needs the key 'type'; given: {sorted(cfg)}.")
        current = DefaultScope.get_current_instance()
        if not self._in_own_scope or (current is not None and current.scope_name == self.scope):
            return super().build(cfg, *args, **kwargs)
        with DefaultScope.overwrite_default_scope(self.scope):
            return super().build(cfg, *args, **kwargs)


@functools.cache
def _backbone_builder(name: str) -> Callable[..., Any]:
    """What a config's `type` builds where it names a backbone: `create_model` with that name."""

    def build_backbone(**kwargs: Any) -> Any:
        from .factory import create_model

        return create_model(name, **kwargs)

    build_backbone.__name__ = build_backbone.__qualname__ = name.replace(".", "_")
    build_backbone.__doc__ = f"Creates the backbone {name}."
    return build_backbone


class ModelRegistry(Registry):
    """`MODELS`: tasks, losses and preprocessors, and every backbone by the name of its entry point."""

    def names(self) -> list[str]:
        """All registered names, backbones included."""
        from ..backbones.registry import list_models

        return sorted({*super().names(), *list_models()})

    def get(self, key: str) -> Any:
        """Finds a registered class or function, or what creates the backbone of that name.

        Args:
            key: a name as for any registry, or a backbone's, with or without a weight tag ("nat_mini.in1k").

        Raises:
            ValueError: nothing has that name; the message names the nearest.
        """
        if isinstance(key, str) and self.is_backbone(key):
            from ..backbones.registry import get_pretrained_cfg

            name = key.removeprefix(f"{self.scope}.")
            get_pretrained_cfg(name)  # raises where there is no such tag
            return _backbone_builder(name)
        return super().get(key)

    def is_backbone(self, key: str) -> bool:
        """Tells whether a name is a backbone's, with or without the scope and a weight tag (which need not exist)."""
        from ..backbones.registry import is_model, split_model_name_tag

        return is_model(split_model_name_tag(key.removeprefix(f"{self.scope}."))[0])


class AlbumentationsRegistry(Registry):
    """`ALBUMENTATIONS`: albumentations' own transforms by their class names ("HueSaturationValue", "OneOf").

    Albumentations takes seconds to import; so it is, when a transform is first looked up.
    """

    def names(self) -> list[str]:
        """All transforms' names."""
        return sorted(self._classes())

    def get(self, key: str) -> Any:
        """Finds a transform's class.

        Args:
            key: its name.

        Raises:
            ValueError: there is no such transform; the message names the nearest.
        """
        found = self._classes().get(key)
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
