"""Ranged attention in PyTorch's own operators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from attnzoo.kernels import exportable_operators, neighborhood_attention_2d


class _Attention(torch.nn.Module):
    def forward(self, query: torch.Tensor, rpb: torch.Tensor) -> torch.Tensor:
        return neighborhood_attention_2d(query, query, query, 3, rpb=rpb)


def _targets(program: torch.export.ExportedProgram) -> list[str]:
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    return [str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"]


@contextlib.contextmanager
def _onnx_export(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    yield


@pytest.mark.parametrize("way", ["asked for", "onnx"])
def test_only_aten_operators_are_traced(way, monkeypatch):
    query, rpb = torch.randn(2, 7, 8, 2, 4), torch.randn(2, 5, 5)
    with exportable_operators() if way == "asked for" else _onnx_export(monkeypatch):
        program = torch.export.export(_Attention(), (query, rpb))
    targets = _targets(program)
    assert targets
    assert all(name.startswith("aten.") for name in targets)
    monkeypatch.undo()
    torch.testing.assert_close(program.module()(query, rpb), _Attention()(query, rpb))
