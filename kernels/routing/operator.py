"""The operators `attnzoo::routed_attention_2d` and `attnzoo::routed_attention_2d_backward`."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch

from ..dispatch import select_backend
from ..operators import Operator, empty_attention_outputs
from . import cpu
from .exportable import routed_attention_2d_exportable
from .geometry import Grid, check_routes
from .operands import Operands
from .reference import routed_attention_2d_reference


class RoutedAttention2d(Operator[Operands]):
    """Attention whose queries see the keys of routed regions; settings are a `Grid` and a scale."""

    name = "routed_attention_2d"
    operands = Operands
    settings = "int[] grid, float scale"
    outputs = ("out", "lse")
    unbatched = ()
    non_differentiable = ("routes", "lse")

    def encode(self, grid: Grid, scale: float) -> tuple[list[int], float]:
        """Converts the grid to a list."""
        return list(grid), scale

    def decode(self, grid: Sequence[int], scale: float) -> tuple[Grid, float]:
        """Converts the list to a grid."""
        return (grid[0], grid[1]), scale

    def select_backend(self, operands: Operands, backend: str) -> ModuleType:
        """Returns the backend's module."""

        def load_fused() -> ModuleType:
            from . import fused

            return fused

        return select_backend(operands, backend, cpu, load_fused)

    def fake_outputs(self, operands: Operands) -> tuple[torch.Tensor, ...]:
        """Returns an uninitialized output and uninitialized log-sum-exps."""
        return empty_attention_outputs(operands.query, operands.value)

    def check_values(self, operands: Operands, grid: Grid, scale: float) -> None:
        """Checks routes on a CPU. On a GPU this would have to wait for the device; there they are clamped."""
        if operands.routes.device.type == "cpu":
            check_routes(operands.routes, grid)

    def reference(self, operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, ...]:
        """Computes attention by definition."""
        if operands.routes.device.type == "cpu" and not torch.compiler.is_compiling():
            check_routes(operands.routes, grid)
        return routed_attention_2d_reference(_clamped(operands, grid), grid, scale)

    def exportable(self, operands: Operands, grid: Grid, scale: float) -> tuple[torch.Tensor, ...]:
        """Computes attention with PyTorch's own operators."""
        return routed_attention_2d_exportable(_clamped(operands, grid), grid, scale)


def _clamped(operands: Operands, grid: Grid) -> Operands:
    """Replaces routes to regions that do not exist by the nearest index, except on a CPU."""
    query, key, value, routes = operands
    if routes.device.type == "cpu":
        return operands
    return Operands(query, key, value, routes.clamp(0, grid[0] * grid[1] - 1))


routed_attention = RoutedAttention2d()
