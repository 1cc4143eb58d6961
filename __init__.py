"""attnzoo: a zoo of vision attention models on shared Triton kernels, and the pipeline that trains them.

    import attnzoo

    attnzoo.list_models("nat_*", pretrained=True)
    model = attnzoo.create_model("nat_mini.in1k", pretrained=True, num_classes=10)

Importing the package imports nothing else: `attnzoo.kernels` needs torch alone, `create_model` adds timm, and only
training, data and tools import mmengine, albumentations and OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import deprecated_paths as _deprecated_paths  # noqa: F401 - installs the finder of old import paths

if TYPE_CHECKING:
    from . import backbones, kernels, zoo
    from .backbones.registry import (
        PretrainedCfg,
        get_pretrained_cfg,
        is_model,
        list_families,
        list_models,
        register_model,
    )
    from .kernels import use_backend
    from .zoo.factory import create_model
    from .zoo.finetune import finetune
    from .zoo.inference import Predictor
    from .zoo.interop import register_in_timm
    from .zoo.weights import LoadReport, load_weights
    from .zoo.weights.publish import push_to_hub, save_pretrained

__version__ = "0.1.0"

_PLACES = {
    "LoadReport": ".zoo.weights",
    "Predictor": ".zoo.inference",
    "PretrainedCfg": ".backbones.registry",
    "create_model": ".zoo.factory",
    "finetune": ".zoo.finetune",
    "get_pretrained_cfg": ".backbones.registry",
    "is_model": ".backbones.registry",
    "list_families": ".backbones.registry",
    "list_models": ".backbones.registry",
    "load_weights": ".zoo.weights",
    "push_to_hub": ".zoo.weights.publish",
    "register_in_timm": ".zoo.interop",
    "register_model": ".backbones.registry",
    "save_pretrained": ".zoo.weights.publish",
    "use_backend": ".kernels",
}
"""Where each public name is defined; it is imported when it is first used."""

_PACKAGES = ("backbones", "kernels", "zoo")

__all__ = [
    "LoadReport",
    "Predictor",
    "PretrainedCfg",
    "__version__",
    "backbones",
    "create_model",
    "finetune",
    "get_pretrained_cfg",
    "is_model",
    "kernels",
    "list_families",
    "list_models",
    "load_weights",
    "push_to_hub",
    "register_in_timm",
    "register_model",
    "save_pretrained",
    "use_backend",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
