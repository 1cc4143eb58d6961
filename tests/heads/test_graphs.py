"""Necks and heads of detection as graphs: export with free sizes, compilation, ONNX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.heads.fpn import FPN
from attnzoo.heads.retinanet import RetinaHead
from attnzoo.heads.rpn import RPNHead

ANCHORS: Any = {"strides": (8, 16, 32)}


class OfMaps(nn.Module):
    """Runs parts one after the other, from three maps given one by one to one tuple of maps, as exporters need it."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, fine: torch.Tensor, middle: torch.Tensor, coarse: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps: Any = [fine, middle, coarse]
        for part in self.parts:
            maps = part(maps)
        return tuple(maps) if isinstance(maps, list) else (*maps[0], *maps[1])


def retina(**arguments: Any) -> RetinaHead:
    return RetinaHead(3, 8, 2, 8, anchor_generator=ANCHORS, **arguments)


PARTS: dict[str, Callable[[], OfMaps]] = {
    "FPN, pooled": lambda: OfMaps(FPN((8, 8, 8), 8, num_outs=4)),
    "FPN, on_input": lambda: OfMaps(FPN((8, 8, 8), 8, num_outs=5, add_extra_convs="on_input")),
    "RPNHead": lambda: OfMaps(RPNHead(8, 8, ANCHORS)),
    "RetinaHead": lambda: OfMaps(retina()),
    "FPN and RetinaHead with norms": lambda: OfMaps(FPN((8, 8, 8), 8, num_outs=3), retina(norm="BN")),
}


def part(name: str) -> OfMaps:
    torch.manual_seed(0)
    return PARTS[name]().eval()


def maps(batch: int = 2, rows: int = 32, columns: int = 48) -> tuple[torch.Tensor, ...]:
    """Maps whose sizes are halved and rounded up, as strided convolutions make them of any image."""
    generator = torch.Generator().manual_seed(rows)
    return tuple(torch.randn(batch, 8, -(-rows // 2**i), -(-columns // 2**i), generator=generator) for i in range(3))


@functools.cache
def exported(name: str) -> torch.export.ExportedProgram:
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    return torch.export.export(
        part(name), maps(), dynamic_shapes={"fine": sizes, "middle": sizes, "coarse": sizes}, strict=False
    )


def check_same(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PARTS)
def test_export_with_free_sizes(name: str):
    program = exported(name).module()
    for given in (maps(), maps(1, 41, 35), maps(3, 64, 40)):
        check_same(program(*given), part(name)(*given))


@pytest.mark.parametrize("name", PARTS)
def test_one_graph(name: str):
    module = part(name)
    check_same(torch.compile(module, backend="eager", fullgraph=True)(*maps()), module(*maps()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RPNHead", "FPN and RetinaHead with norms"])
def test_compiled(name: str):
    module = part(name)
    check_same(torch.compile(module, fullgraph=True)(*maps()), module(*maps()))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_onnx_runtime(name: str, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    program: Any = torch.onnx.export(exported(name), dynamo=True, verbose=False)
    program.save(tmp_path / "part.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "part.onnx")
    for given in (maps(), maps(1, 41, 35)):
        inputs = {one.name: value.numpy() for one, value in zip(session.get_inputs(), given, strict=True)}
        with torch.no_grad():
            expected = part(name)(*given)
        check_same([torch.from_numpy(one) for one in session.run(None, inputs)], expected)
