"""Functions that torch.fx records as one call."""

from __future__ import annotations

import copy

import pytest
import torch

from attnzoo.kernels import neighborhood_attention_2d, route_regions, routed_attention_2d
from attnzoo.kernels.tracing import fx_leaf


@fx_leaf
def halved(x: torch.Tensor, parts: int = 2) -> torch.Tensor:
    if x.shape[0] % parts:
        raise ValueError(f"{len(x)} rows")
    return x[: len(x) // parts]


class Model(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = halved(halved(x), parts=x.shape[-1])
        query, key, value = x.unflatten(-1, (3, 2, -1)).unbind(-3)
        routes = route_regions(query, key, 2, 1)
        return neighborhood_attention_2d(query, key, value=value, kernel_size=3) + routed_attention_2d(
            query, key, value, routes, 2
        )


def test_graphs_call_the_functions_and_retrace():
    model, x = Model(), torch.randn(24, 4, 4, 12)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_function" and node.target is halved]
    torch.testing.assert_close(traced(x), model(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(copy.deepcopy(traced))(x), model(x))
    with pytest.raises(ValueError, match="25 rows"):
        traced(torch.randn(25, 4, 4, 12))


def test_plain_calls_are_not_recorded():
    assert halved.__name__ == "halved"
    assert torch.equal(halved(torch.arange(4)), torch.arange(2))
    compiled = torch.compile(lambda x: halved(x) + 1, fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.arange(4)), torch.arange(2) + 1)
