"""What all kernels of a backward pass receive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ...triton_common.addressing import needs_int64_offsets, vector_dim
from ..operands import Operands
from .padded_bias import PaddedBias


@dataclass(frozen=True, eq=False)
class BackwardInputs:
    """What all kernels of a backward pass receive.

    Attributes:
        operands: The operands of the forward pass.
        bias: The padded bias table.
        out: (B, Hq, Wq, heads, dim_v) output of the forward pass.
        lse: (B, Hq, Wq, heads) log-sum-exp of the scores, contiguous.
        delta: (B, Hq, Wq, heads) float32, contiguous. `dq_kernel` writes it, the others read it.
        grad_out: (B, Hq, Wq, heads, dim_v).
        gradients: Contiguous tensors for the results; those of the terms are zeros.
        scale: Factor of the scores, including log2(e).
    """

    operands: Operands
    bias: PaddedBias
    out: torch.Tensor
    lse: torch.Tensor
    delta: torch.Tensor
    grad_out: torch.Tensor
    gradients: Operands
    scale: float

    @property
    def query_map(self) -> tuple[int, ...]:
        """Rows and columns of the queries."""
        return tuple(self.operands.query.shape[1:3])

    @property
    def maps(self) -> tuple[int, ...]:
        """Rows and columns of the queries, then of the keys."""
        return (*self.query_map, *self.operands.key.shape[1:3])

    @property
    def group(self) -> int:
        """Number of query heads per key head."""
        return self.operands.query.shape[3] // self.operands.key.shape[3]

    @property
    def tokens(self) -> int:
        """Number of additional keys."""
        return 0 if self.operands.additional_keys is None else self.operands.additional_keys.shape[1]

    @property
    def constants(self) -> dict[str, Any]:
        """Compile-time constants of all kernels, by parameter name."""
        maps = [
            one
            for operands in (self.operands, self.gradients)
            for one in (*operands[:3], operands.row_terms, operands.col_terms)
        ]
        return {
            "QK_DIM": vector_dim(self.operands.query),
            "V_DIM": vector_dim(self.operands.value),
            "INT64_OFFSETS": needs_int64_offsets(self.out, self.grad_out, *maps),
        }
