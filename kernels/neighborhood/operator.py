"""The operators `attnzoo::ranged_attention_2d` and `attnzoo::ranged_attention_2d_backward`."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch

from ..dispatch import select_backend
from ..operators import Operator, empty_attention_outputs
from . import cpu
from .exportable import ranged_attention_2d_exportable
from .geometry import Geometry, decode_rule, encode_rule
from .operands import Operands
from .reference import ranged_attention_2d_reference


class RangedAttention2d(Operator[Operands]):
    """Attention whose queries see a range of rows and a range of columns; settings are a `Geometry` and a scale."""

    name = "ranged_attention_2d"
    operands = Operands
    settings = "int[] rows, int[] cols, float scale"
    outputs = ("out", "lse")
    unbatched = ("rpb",)

    def encode(self, geometry: Geometry, scale: float) -> tuple[list[int], list[int], float]:
        """Converts the rules to lists of integers."""
        return encode_rule(geometry.rows), encode_rule(geometry.cols), scale

    def decode(self, rows: Sequence[int], cols: Sequence[int], scale: float) -> tuple[Geometry, float]:
        """Converts lists of integers to rules."""
        return Geometry(decode_rule(rows), decode_rule(cols)), scale

    def select_backend(self, operands: Operands, backend: str) -> ModuleType:
        """Returns the backend's module."""

        def load_fused() -> ModuleType:
            from . import fused

            return fused

        return select_backend(operands, backend, cpu, load_fused)

    def fake_outputs(self, operands: Operands) -> tuple[torch.Tensor, ...]:
        """Returns an uninitialized output and uninitialized log-sum-exps."""
        return empty_attention_outputs(operands.query, operands.value)

    def reference(self, operands: Operands, geometry: Geometry, scale: float) -> tuple[torch.Tensor, ...]:
        """Computes attention by definition."""
        return ranged_attention_2d_reference(operands, geometry, scale)

    def exportable(self, operands: Operands, geometry: Geometry, scale: float) -> tuple[torch.Tensor, ...]:
        """Computes attention with PyTorch's own operators."""
        return ranged_attention_2d_exportable(operands, geometry, scale)


ranged_attention = RangedAttention2d()
