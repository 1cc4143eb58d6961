"""What a model costs for one image, by module: multiply-accumulates, parameters, activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    """The cost of one module for one image.

    Attributes:
        name: dotted, as in `named_modules`; empty for the whole model.
        kind: its class.
        parameters: of it and of what is in it.
        macs: multiply-accumulates of convolutions, matrix products and attention, in it and in what is in it; half of
            the floating-point operations.
        activations: numbers that these operations give.
    """

    name: str
    kind: str
    parameters: int
    macs: int
    activations: int

    @property
    def depth(self) -> int:
        """How many modules it is inside of; 0 for the whole model."""
        return self.name.count(".") + 1 if self.name else 0


@dataclass(frozen=True)
class ModelCost:
    """The cost of a model for one image.

    Attributes:
        image_size: height and width in pixels.
        proposals: regions that a two-stage detector's box heads see; None for other models.
        detections: regions that its mask heads see; None where there are none.
        parameters: of the model.
        trained: those of them that are trained.
        macs: multiply-accumulates.
        activations: numbers that convolutions, matrix products and attention give.
        modules: what costs something, in the model's order; the first is the model itself.
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
        """Floating-point operations: a multiply-accumulate is two."""
        return 2 * self.macs


class _Inference(nn.Module):
    """Runs what a model computes for an image, up to where its own operations end and those on single boxes begin.

    Args:
        model: a backbone or a task.
        proposals: see `count_cost`.
        detections: see `count_cost`.
    """

    def __init__(self, model: nn.Module, proposals: int, detections: int) -> None:
        super().__init__()
        self.model: Any = model
        self.proposals, self.detections = proposals, detections

    def forward(self, image: torch.Tensor) -> dict[str, int]:
        """Runs the model for its cost alone; returns the numbers of regions that a task's heads were run on."""
        dummy = getattr(self.model, "forward_dummy", None)
        if dummy is not None:
            return dummy(image, self.proposals, self.detections)
        self.model(image)
        return {}


class _Activations(TorchDispatchMode):
    """Counts the numbers that convolutions, matrix products and attention give, by module."""

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
    """Counts what a model costs for one image in inference.

    Of a two-stage detector the box heads are counted for `proposals` regions and the mask heads for `detections`; of a
    segmentor its auxiliary head is left out, which inference does not run. Not counted, as nowhere: norms, activation
    functions, sums, pooling, cutting regions out of maps, non-maximum suppression.

    Args:
        model: a backbone, a `FeatureMaps` or a task, best on PyTorch's meta device, where nothing is computed; it is
            put into evaluation mode.
        image_size: height and width in pixels.
        in_chans: channels of the image.
        proposals: regions of an image that box heads see.
        detections: regions that mask heads see.

    Returns:
        The costs, by module.

    Raises:
        ValueError: a number is less than 1.
    """
    for name, value in (("image_size", min(image_size)), ("proposals", proposals), ("detections", detections)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}.")
    run = _Inference(model.eval(), proposals, detections)
    device = next(model.parameters()).device
    image = torch.empty(1, in_chans, *image_size, device=device)
    counter, activations = FlopCounterMode(display=False), _Activations()
    with torch.no_grad(), counter:
        regions = run(image)
    with torch.no_grad(), activations, activations.tracker:
        run(image)
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    root = type(run).__name__
    modules: list[ModuleCost] = []
    inside: Counter[tuple[str, str]] = Counter()  # what the modules directly inside of one cost
    for name, module in reversed(list(model.named_modules())):
        place = f"{root}.model.{name}" if name else root
        # Lists of modules, and modules of which parts are called one by one, are not called themselves.
        macs = max(flops.get(place, 0) // 2, inside[name, "macs"])
        numbers = max(activations.counts[place], inside[name, "activations"])
        parameters = count_parameters(module)[0]
        if name:
            outer = name.rpartition(".")[0]
            inside[outer, "macs"] += macs
            inside[outer, "activations"] += numbers
        if parameters or macs:
            modules.append(ModuleCost(name, type(module).__name__, parameters, macs, numbers))
    modules.reverse()
    parameters, trained = count_parameters(model)
    return ModelCost(
        image_size=image_size,
        proposals=regions.get("proposals"),
        detections=regions.get("detections"),
        parameters=parameters,
        trained=trained,
        macs=counter.get_total_flops() // 2,
        activations=activations.counts[root],
        modules=tuple(modules),
    )


def cost_table(cost: ModelCost, depth: int = 1) -> str:
    """Sets costs in columns.

    Args:
        cost: of a model.
        depth: how many modules deep; 0 for the model alone.

    Returns:
        A text of one line a module.
    """
    rows = [("module", "class", "parameters", "MACs", "share", "activations")]
    for one in cost.modules:
        if one.depth <= depth:
            share = f"{100 * one.macs / cost.macs:.1f} %" if cost.macs else ""
            label = "  " * max(0, one.depth - 1) + (one.name.rpartition(".")[2] or "the model")
            rows.append((label, one.kind, short(one.parameters), short(one.macs), share, short(one.activations)))
    return _columns(rows, left=2)


def _columns(rows: Sequence[Sequence[str]], left: int) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def short(number: int) -> str:
    """Writes a number with three digits and a unit: 1234567 as "1.23 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            value = number / size
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return str(number)
