"""Models are traced in torch's own operators; sizes that are stored in tables cannot be dynamic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnzoo import list_models
from attnzoo.zoo.export import ExportError, export_onnx, export_program, exportable
from attnzoo.zoo.export.tracing import dynamic_axes, example_images, first_line, trace

from .models import on_meta, tiny


@pytest.mark.parametrize("family", ["nat", "halonet", "davit"])
def test_tables_for_one_size_cannot_be_dynamic(family: str, tmp_path: Path):
    part = exportable(tiny(family))
    for to_file in (export_onnx, export_program):
        with pytest.raises(ExportError, match="tables for one size of map"):
            to_file(part, tmp_path / "model", (32, 32), dynamic_size=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_is_traced_in_torchs_own_operators(name: str):
    model = on_meta(name)
    size = max(64, model.min_input_size)
    program = trace(exportable(model), torch.empty(2, 3, size, size, device="meta"), True, False)
    namespaces = {node.target.namespace for node in program.graph.nodes if hasattr(node.target, "namespace")}
    assert "aten" in namespaces
    assert "attnzoo" not in namespaces


def test_a_model_that_cannot_be_traced_is_an_error():
    class DataDependent(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image if image.sum() > 0 else -image

    with pytest.raises(ExportError, match=r"cannot trace the model: .*\. Try a fixed height and width"):
        trace(DataDependent(), torch.ones(2, 3, 8, 8), dynamic_batch=False, dynamic_size=True)


def test_example_images_fit_the_dynamic_axes():
    assert example_images(3, (4, 5), 1, True, False).shape == (2, 3, 4, 5)
    assert example_images(1, (4, 5), 1, False, False).shape == (1, 1, 4, 5)
    pixels = example_images(3, (8, 8), 2, True, True)
    assert 0 <= pixels.min() < 50 < 200 < pixels.max() <= 255
    with pytest.raises(ValueError, match=r"must be positive, got 0 and \(4, 5\)"):
        example_images(3, (4, 5), 0, True, False)
    assert dynamic_axes(True, True) == ("batch", "height", "width")
    assert dynamic_axes(False, False) == ()


def test_messages_are_shortened_to_their_first_line():
    assert first_line(ValueError("first.\nsecond")) == "first"
    assert first_line(KeyError()) == "KeyError"
