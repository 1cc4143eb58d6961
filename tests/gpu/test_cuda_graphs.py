"""Attention in CUDA graphs: of torch.compile, and captured by hand."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels import neighborhood_attention_2d, route_regions, routed_attention_2d

pytestmark = pytest.mark.gpu


def _neighborhoods(x: torch.Tensor, rpb: torch.Tensor) -> torch.Tensor:
    return neighborhood_attention_2d(x, x + 1, x * 2, 7, rpb=rpb)


def _routes(x: torch.Tensor, rpb: torch.Tensor) -> torch.Tensor:
    return routed_attention_2d(x, x + 1, x * 2, route_regions(x, x, 4, 2), 4)


def _draw() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 28, 20, 2, 32, device="cuda"), torch.randn(2, 13, 13, device="cuda")


@pytest.mark.parametrize("function", [_neighborhoods, _routes])
def test_reduced_overhead_with_several_sizes(function):
    compiled = torch.compile(function, mode="reduce-overhead", fullgraph=True)
    for _ in range(4):  # warm-up, capture, replays
        for height in (28, 24):
            x, rpb = _draw()
            x = x[:, :height].contiguous().requires_grad_()
            torch.compiler.cudagraph_mark_step_begin()
            out = compiled(x, rpb)
            (gradient,) = torch.autograd.grad(out.square().sum(), x)
            expected = function(x, rpb)
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
            wanted = torch.autograd.grad(expected.square().sum(), x)[0]
            torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("function", [_neighborhoods, _routes])
def test_a_graph_captured_by_hand(function):
    x, rpb = _draw()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        function(x, rpb)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(x, rpb)
    for _ in range(2):
        x.copy_(torch.randn_like(x))
        graph.replay()
        torch.testing.assert_close(out, function(x, rpb), rtol=1e-4, atol=1e-4)


def test_a_capture_of_new_sizes_says_what_to_do():
    query = torch.randn(1, 37, 41, 1, 32, device="cuda")
    torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match="Run the captured function once"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        neighborhood_attention_2d(query, query, query, 5)
