"""OpenVINO runs programs of torch.export and ONNX files. It is in the extra `clients`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnzoo import create_model
from attnzoo.kernels import exportable_operators
from attnzoo.zoo.export import export_onnx, export_program, exportable

pytestmark = pytest.mark.slow
NAT = {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2), "kernel_size": 3, "num_classes": 5}
BIFORMER = {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2), "topks": (1, 2), "num_regions": 2}
MODELS: dict[str, dict[str, Any]] = {"nat_mini": NAT, "biformer_tiny": BIFORMER}


def run(program: Any, images: torch.Tensor) -> np.ndarray:
    """Converts a program or file, and runs it."""
    import openvino  # pyright: ignore[reportMissingImports]  # an extra, see pyproject.toml

    compiled = openvino.compile_model(openvino.convert_model(program), "CPU")
    return next(iter(compiled(images.numpy()).values()))


@pytest.mark.parametrize("form", ["pt2", "onnx", "torch.export"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_ours(name: str, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, **MODELS[name]).eval()
    images = torch.randn(3, 3, 32, 32)
    path = tmp_path / f"model.{form}"
    if form == "onnx":
        program: Any = str(export_onnx(exportable(model), path, (32, 32)).path)
    elif form == "pt2":
        program = torch.export.load(export_program(exportable(model), path, (32, 32)).path)
    else:
        with exportable_operators():
            program = torch.export.export(model, (images,))
    with torch.no_grad():
        expected = model(images).numpy()
    np.testing.assert_allclose(run(program, images), expected, atol=1e-4 * np.abs(expected).max())
