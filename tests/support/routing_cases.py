"""Cases of routed attention, and the comparison of an implementation with the definition."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from hypothesis import strategies as st

from attnzoo.kernels.routing.operands import Operands
from attnzoo.kernels.routing.reference import routed_attention_2d_reference
from support.kernel_cases import relative_error

Results = dict[str, Any]


@dataclass(frozen=True)
class RoutingCase:
    """The parameters of a call. `grid` and `region` are (rows, columns); routes are random.

    Attributes:
        repeats: Whether regions may occur several times in the routes of a region.
        popular: Whether all routes contain the same few regions, so that the others are not seen.
    """

    grid: tuple[int, int]
    region: tuple[int, int]
    topk: int
    batch: int = 1
    heads: int = 1
    dim: int = 4
    dim_v: int = 4
    scale: float = 0.4
    repeats: bool = False
    popular: bool = False
    seed: int = 0

    @property
    def regions(self) -> int:
        return self.grid[0] * self.grid[1]

    def operands(self, dtype: torch.dtype, device: str = "cpu") -> Results:
        """Draws query, key and value."""
        noise = torch.Generator().manual_seed(self.seed)
        sides = (self.grid[0] * self.region[0], self.grid[1] * self.region[1])
        dims = {"query": self.dim, "key": self.dim, "value": self.dim_v}
        return {
            name: torch.randn(self.batch, *sides, self.heads, dim, generator=noise).to(device, dtype).requires_grad_()
            for name, dim in dims.items()
        }

    def routes(self, device: str = "cpu") -> torch.Tensor:
        """Draws routes (B, regions, topk)."""
        noise = torch.Generator().manual_seed(self.seed + 1)
        shape = (self.batch, self.regions)
        if self.repeats:
            most = max(1, self.regions // 2) if self.popular else self.regions
            return torch.randint(most, (*shape, self.topk), generator=noise).to(device)
        preferred = torch.rand(*shape, self.regions, generator=noise)
        if self.popular:
            preferred = preferred[:1, :1].expand(*shape, -1)
        return preferred.argsort(-1)[..., : self.topk].contiguous().to(device)

    def upstream(self, like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Draws the gradient of the output, rounded to `dtype`."""
        noise = torch.Generator().manual_seed(self.seed + 2)
        return torch.randn(like.shape, generator=noise).to(dtype).to(like)

    def definition(self, dtype: torch.dtype) -> Results:
        """Computes the definition in float64 for operands rounded to `dtype`: out, lse, dquery, dkey and dvalue."""
        operands = {name: one.detach().double().requires_grad_() for name, one in self.operands(dtype).items()}
        out, lse = routed_attention_2d_reference(Operands(**operands, routes=self.routes()), self.grid, self.scale)
        gradients = torch.autograd.grad(out, list(operands.values()), self.upstream(out, dtype))
        return {"out": out, "lse": lse} | {f"d{name}": one for name, one in zip(operands, gradients, strict=True)}

    def results(
        self, module: ModuleType, dtype: torch.dtype, device: str = "cpu", changed: Results | None = None
    ) -> Results:
        """Runs an implementation's `forward` and `backward`; `changed` overrides the random tensors."""
        changed = dict(changed or {})
        operands: Any = {name: one.detach() for name, one in self.operands(dtype, device).items()}
        operands["routes"] = self.routes(device)
        operands |= {name: changed.pop(name) for name in list(changed) if name in operands}
        operands = Operands(**operands)
        out, lse = module.forward(operands, self.grid, self.scale)
        upstream = changed.get("upstream", self.upstream(out, dtype))
        gradients = module.backward(upstream, operands, out, lse, self.grid, self.scale)
        assert gradients[3] is None
        return {"out": out, "lse": lse} | dict(zip(("dquery", "dkey", "dvalue"), gradients[:3], strict=True))


def check_case(
    case: RoutingCase, module: ModuleType, dtype: torch.dtype, tolerance: float, device: str = "cpu"
) -> None:
    """Compares an implementation's results in `dtype` with the definition's in float64, for the same operands."""
    expected = case.definition(dtype)
    for name, actual in case.results(module, dtype, device).items():
        assert actual.dtype == (torch.promote_types(dtype, torch.float32) if name == "lse" else dtype)
        error = _error(actual.cpu(), expected[name])
        assert error < tolerance, f"{name}: relative error {error:.2e} in {case}"


def _error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Returns the relative error, or that relative to 0.01 if all expected values are zero except for rounding."""
    floor = 0.01 * expected.numel() ** 0.5
    if expected.norm() > floor:
        return relative_error(actual, expected)
    return relative_error(actual.double() + 1, expected + 1) * 100


@st.composite
def routing_cases(draw: st.DrawFn, max_regions: int = 4, max_tokens: int = 5) -> RoutingCase:
    """Draws cases with at most these numbers of regions, and of tokens of a region, per axis."""
    grid = (draw(st.integers(1, max_regions)), draw(st.integers(1, max_regions)))
    repeats = draw(st.booleans())
    regions = grid[0] * grid[1]
    return RoutingCase(
        grid=grid,
        region=(draw(st.integers(1, max_tokens)), draw(st.integers(1, max_tokens))),
        topk=draw(st.integers(1, regions + 2 if repeats else regions)),
        batch=draw(st.integers(1, 2)),
        heads=draw(st.integers(1, 3)),
        dim=draw(st.integers(1, 9)),
        dim_v=draw(st.integers(1, 9)),
        scale=draw(st.sampled_from([0.4, -0.7])),
        repeats=repeats,
        popular=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


def strided_views() -> dict[str, Results]:
    """Returns query, key and value (2, 6, 10, 2, 4) with the strides that occur in models, by their origin."""
    draw = torch.Generator().manual_seed(0)
    together = {
        "qkv of one linear layer": torch.randn(2, 6, 10, 3, 2, 4, generator=draw).movedim(3, 0),
        "channels first": torch.randn(3, 2, 8, 6, 10, generator=draw).permute(0, 1, 3, 4, 2).unflatten(-1, (2, 4)),
        "heads first": torch.randn(3, 2, 2, 6, 10, 4, generator=draw).permute(0, 1, 3, 4, 2, 5),
        "expanded": torch.randn(3, 1, 6, 1, 2, 4, generator=draw).expand(3, 2, 6, 10, 2, 4),
        "sliced": torch.randn(3, 3, 14, 21, 2, 9, generator=draw)[:, 1:, 1:13:2, 1::2, :, 1::2],
        "flipped axes": torch.randn(3, 4, 2, 10, 6, 2, generator=draw).permute(0, 5, 4, 3, 2, 1),
    }
    return {name: dict(zip(("query", "key", "value"), one.unbind(0), strict=True)) for name, one in together.items()}
