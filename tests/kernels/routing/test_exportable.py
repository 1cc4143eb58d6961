"""Routing and routed attention in PyTorch's own operators."""

from __future__ import annotations

import contextlib

import pytest
import torch

from attnzoo.kernels import exportable_operators, route_regions, routed_attention_2d


class _Attention(torch.nn.Module):
    def forward(self, query: torch.Tensor) -> torch.Tensor:
        return routed_attention_2d(query, query, query, route_regions(query, query, 2, 2), 2)


def _targets(program: torch.export.ExportedProgram) -> list[str]:
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    names = [str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"]
    return [name for name in names if "getitem" not in name]


@pytest.mark.parametrize("way", ["asked for", "onnx"])
def test_only_aten_operators_are_traced(way, monkeypatch):
    query = torch.randn(2, 6, 8, 2, 4)
    if way == "onnx":
        monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with exportable_operators() if way == "asked for" else contextlib.nullcontext():
        program = torch.export.export(_Attention(), (query,))
    assert all(name.startswith("aten.") for name in _targets(program))
    monkeypatch.undo()
    torch.testing.assert_close(program.module()(query), _Attention()(query))
