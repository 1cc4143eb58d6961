"""Measurements and published accuracies of the models in the zoo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ...backbones.registry import get_pretrained_cfg, get_tags, list_models
from ...deprecated_paths import renamed_names
from ..factory import create_model

_KERNELS = {"ranged_attention_2d": "neighborhood", "routed_attention_2d": "routing"}  # folder of each operator


@dataclass(frozen=True)
class ModelMeasurement:
    """What is measured by running a model.

    Attributes:
        parity: Maximum relative error compared with the reference implementation; None if there is no reference.
        kernels: Names of the zoo's operations that the model calls, sorted.
    """

    parity: float | None
    kernels: tuple[str, ...]


def accuracy_points(family: str) -> list[tuple[str, float, float]]:
    """Returns name, MACs and accuracy of the best comparable checkpoint of each model in a family.

    Checkpoints that were trained on more than ImageNet-1K, or published at another size than their training's, are not
    comparable.
    """
    best: dict[str, tuple[str, float, float]] = {}
    for name in list_models(family=family):
        for tag in get_tags(name):
            cfg = get_pretrained_cfg(f"{name}.{tag}")
            if cfg.top1 is None or cfg.macs is None or cfg.test_input_size or "22k" in tag:
                continue
            if name not in best or cfg.top1 > best[name][2]:
                best[name] = name, cfg.macs, cfg.top1
    return sorted(best.values(), key=lambda point: point[1])


def called_kernels(name: str) -> tuple[str, ...]:
    """Returns the folders of `attnzoo.kernels` whose operators a model calls for one image, sorted."""
    with torch.device("meta"):
        model = create_model(name, num_classes=0).eval()
        images = torch.empty(1, *get_pretrained_cfg(name).input_size)
    with _Operators() as operators, torch.no_grad():
        model(images)
    return tuple(sorted({_KERNELS[name] for name in operators.called}))


class _Operators(TorchDispatchMode):
    """Records the calls of the zoo's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "attnzoo":
            self.called.add(func._opname)
        return func(*args, **(kwargs or {}))


__getattr__ = renamed_names(__name__, {"Measured": "ModelMeasurement"})
