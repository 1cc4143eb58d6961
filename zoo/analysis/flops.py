"""Cost of a model for one image, by module: multiply-accumulates, parameters, activations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.module_tracker import ModuleTracker

from .summary import count_parameters


@dataclass(frozen=True)
class ModuleCost:
    """Cost of one module, including its submodules, for one image.

    Attributes:
        name: Name as in `named_modules`; empty for the complete model.
        kind: Name of its class.
        parameters: Number of parameters.
        macs: Multiply-accumulates of convolutions, matrix products and attention; half of the FLOPs.
        activations: Number of elements in the outputs of these operations.
    """

    name: str
    kind: str
    parameters: int
    macs: int
    activations: int

    @property
    def depth(self) -> int:
        """Nesting depth of the module; 0 for the complete model."""
        return self.name.count(".") + 1 if self.name else 0


@dataclass(frozen=True)
class ModelCost:
    """Cost of a model for one image.

    Attributes:
        image_size: Height and width in pixels.
        proposals: Number of regions for the box heads of a two-stage detector; None for other models.
        detections: Number of regions for its mask heads; None if there are none.
        parameters: Number of parameters.
        trained: Number of trainable parameters.
        macs: Multiply-accumulates.
        activations: Number of elements in the outputs of convolutions, matrix products and attention.
        modules: Modules that have a cost, in the order of the model; the first is the model itself.
    """

    image_size: tuple[int, int]
    proposals: int | None
    detections: int | None
    parameters: int
    trained: int
    macs: int
    activations: int
    modules: tuple[ModuleCost, ...]

    @property
    def flops(self) -> int:
        """Floating-point operations: two per multiply-accumulate."""
        return 2 * self.macs


class _Inference(nn.Module):
    """Runs the modules that a model uses in inference, without the operations on single boxes.

    Args:
        model: A backbone or a task.
        proposals: Number of regions for box heads.
        detections: Number of regions for mask heads.
    """

    def __init__(self, model: nn.Module, proposals: int, detections: int) -> None:
        super().__init__()
        self.model: Any = model
        self.proposals, self.detections = proposals, detections

    def forward(self, image: torch.Tensor) -> dict[str, int]:
        """Runs the model; returns the numbers of regions that the heads of a task were run on."""
        dummy = getattr(self.model, "forward_dummy", None)
        if dummy is not None:
            return dummy(image, self.proposals, self.detections)
        self.model(image)
        return {}


class _ActivationCounter(TorchDispatchMode):
    """Counts the elements in the outputs of convolutions, matrix products and attention, by module."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = ModuleTracker()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            first = out[0] if isinstance(out, tuple | list) else out
            self.counts.update(dict.fromkeys(self.tracker.parents, first.numel()))
        return out


def count_cost(
    model: nn.Module,
    image_size: tuple[int, int],
    in_chans: int = 3,
    proposals: int = 1000,
    detections: int = 100,
) -> ModelCost:
    """Counts the cost of a model for one image in inference.

    The box heads of a two-stage detector are counted for `proposals` regions and its mask heads for `detections`. The
    auxiliary head of a segmentor is not counted because inference does not run it. As is common practice, norms,
    activation functions, additions, pooling, RoIAlign and non-maximum suppression are not counted either.

    Args:
        model: A backbone, a `FeatureMaps` or a task, preferably on the meta device, where nothing is computed. It is
            put into evaluation mode.
        image_size: Height and width in pixels.
        in_chans: Number of image channels.
        proposals: Number of regions per image for box heads.
        detections: Number of regions per image for mask heads.

    Raises:
        ValueError: A number is less than 1.
    """
    for name, value in (("image_size", min(image_size)), ("proposals", proposals), ("detections", detections)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    inference = _Inference(model.eval(), proposals, detections)
    image = torch.empty(1, in_chans, *image_size, device=next(model.parameters()).device)
    macs, activations = FlopCounterMode(display=False), _ActivationCounter()
    with torch.no_grad(), macs:
        regions = inference(image)
    with torch.no_grad(), activations, activations.tracker:
        inference(image)
    parameters, trained = count_parameters(model)
    return ModelCost(
        image_size=image_size,
        proposals=regions.get("proposals"),
        detections=regions.get("detections"),
        parameters=parameters,
        trained=trained,
        macs=macs.get_total_flops() // 2,
        activations=activations.counts[type(inference).__name__],
        modules=_module_costs(model, macs, activations, root=type(inference).__name__),
    )


def _module_costs(
    model: nn.Module, counter: FlopCounterMode, activations: _ActivationCounter, root: str
) -> tuple[ModuleCost, ...]:
    """Collects the costs of all modules that have any.

    Args:
        model: The model.
        counter: Holds the FLOPs by the names of the modules that were called.
        activations: Holds the activations by the same names.
        root: Name of the module around the model.
    """
    flops = {name: sum(operators.values()) for name, operators in counter.get_flop_counts().items()}
    modules: list[ModuleCost] = []
    children: Counter[tuple[str, str]] = Counter()  # sums over the direct submodules
    for name, module in reversed(list(model.named_modules())):
        path = f"{root}.model.{name}" if name else root
        # A ModuleList, or a module whose submodules are called one by one, is not called itself.
        macs = max(flops.get(path, 0) // 2, children[name, "macs"])
        elements = max(activations.counts[path], children[name, "activations"])
        if name:
            parent = name.rpartition(".")[0]
            children[parent, "macs"] += macs
            children[parent, "activations"] += elements
        parameters = count_parameters(module)[0]
        if parameters or macs:
            modules.append(ModuleCost(name, type(module).__name__, parameters, macs, elements))
    return tuple(reversed(modules))
