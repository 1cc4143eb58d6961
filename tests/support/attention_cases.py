"""Random cases of ranged attention, and the comparison of a backend with the definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from attnzoo.kernels.neighborhood import ranged_attention_2d
from attnzoo.kernels.neighborhood.geometry import AxisRule, Blocks, Neighborhood
from support.kernel_cases import relative_error


@dataclass(frozen=True)
class Axis:
    """A rule, and lengths of the query and the key axis that it can be applied to."""

    rule: AxisRule
    queries: int
    keys: int


@dataclass(frozen=True)
class AttentionCase:
    """The parameters of a call of `ranged_attention_2d`."""

    rows: Axis
    cols: Axis
    batch: int = 1
    heads_kv: int = 1
    group: int = 1
    dim: int = 4
    dim_v: int = 4
    has_rpb: bool = False
    tokens: int = 0
    scale: float | None = None
    seed: int = 0
    has_row_terms: bool = False
    has_col_terms: bool = False

    def operands(self, dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
        """Draws the tensor arguments by parameter name."""
        noise = torch.Generator().manual_seed(self.seed)
        heads = self.heads_kv * self.group
        shapes: dict[str, tuple[int, ...]] = {
            "query": (self.batch, self.rows.queries, self.cols.queries, heads, self.dim),
            "key": (self.batch, self.rows.keys, self.cols.keys, self.heads_kv, self.dim),
            "value": (self.batch, self.rows.keys, self.cols.keys, self.heads_kv, self.dim_v),
        }
        if self.has_rpb:
            shapes["rpb"] = (heads, self.rows.rule.bias_length, self.cols.rule.bias_length)
        if self.has_row_terms:
            shapes["row_terms"] = (*shapes["query"][:4], self.rows.rule.bias_length)
        if self.has_col_terms:
            shapes["col_terms"] = (*shapes["query"][:4], self.cols.rule.bias_length)
        if self.tokens:
            shapes["additional_keys"] = (self.batch, self.tokens, self.heads_kv, self.dim)
            shapes["additional_values"] = (self.batch, self.tokens, self.heads_kv, self.dim_v)
        return {
            name: torch.randn(shape, generator=noise).to(device, dtype).requires_grad_()
            for name, shape in shapes.items()
        }

    def results(self, operands: dict[str, Any], backend: str, rounded_to: torch.dtype) -> dict[str, torch.Tensor]:
        """Runs a backend: the output, the log-sum-exps, and the gradient of every operand through both.

        The gradient of the output is rounded to `rounded_to`, independently of the output's dtype.
        """
        out, lse = ranged_attention_2d(
            **operands,
            rows=self.rows.rule,
            cols=self.cols.rule,
            scale=self.scale,
            return_lse=True,
            backend=backend,
        )
        noise = torch.Generator().manual_seed(self.seed + 1)
        upstream = [torch.randn(one.shape, generator=noise) for one in (out, lse)]
        upstream = [upstream[0].to(rounded_to).to(out), upstream[1].to(lse)]
        gradients = torch.autograd.grad((out, lse), list(operands.values()), upstream)
        return {"out": out, "lse": lse} | {f"d{name}": one for name, one in zip(operands, gradients, strict=True)}


def check_case(case: AttentionCase, backend: str, dtype: torch.dtype, tolerance: float, device: str = "cpu") -> None:
    """Compares a backend's results in `dtype` with the definition's in float64, for the same rounded operands."""
    operands = case.operands(dtype, device)
    exact = {name: one.detach().cpu().double().requires_grad_() for name, one in operands.items()}
    expected = case.results(exact, "reference", dtype)
    for name, actual in case.results(operands, backend, dtype).items():
        assert actual.dtype == (torch.promote_types(dtype, torch.float32) if name == "lse" else dtype)
        error = relative_error(actual.cpu(), expected[name])
        assert error < tolerance, f"{name}: relative error {error:.2e} in {case}"


@st.composite
def axes(draw: st.DrawFn, extra: int = 14) -> Axis:
    """Draws an axis that is at most `extra` longer than its rule needs."""
    if draw(st.booleans()):
        kernel_size = draw(st.integers(2, 7))
        rule = Neighborhood(
            kernel_size,
            stride=draw(st.integers(1, kernel_size)),
            dilation=draw(st.integers(1, 3)),
            is_causal=draw(st.booleans()),
        )
        length = kernel_size * rule.dilation + draw(st.integers(0, extra))
        return Axis(rule, length, length)
    query_stride = draw(st.integers(1, 2))
    per_block = draw(st.integers(1, 4))
    rule = Blocks(
        query_stride * per_block,
        halo=draw(st.integers(0, 3)),
        query_stride=query_stride,
        clip=draw(st.booleans()),
        shift=query_stride * draw(st.integers(0, per_block - 1)),
    )
    keys = draw(st.integers(1, max(rule.block_size, extra)))
    return Axis(rule, -(-keys // query_stride), keys)


def attention_cases(extra: int = 14) -> st.SearchStrategy[AttentionCase]:
    """Draws cases whose axes are at most `extra` longer than their rules need."""
    return st.builds(
        AttentionCase,
        rows=axes(extra),
        cols=axes(extra),
        batch=st.integers(1, 2),
        heads_kv=st.integers(1, 2),
        group=st.integers(1, 2),
        dim=st.integers(1, 9),
        dim_v=st.integers(1, 9),
        has_rpb=st.booleans(),
        tokens=st.sampled_from([0, 0, 3]),
        has_row_terms=st.booleans(),
        has_col_terms=st.booleans(),
        scale=st.sampled_from([None, 0.3]),
        seed=st.integers(0, 99),
    )
