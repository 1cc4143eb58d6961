"""Files that differ from PyTorch are discarded; complete ones are moved into place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnzoo.zoo.export import ExportError, exportable
from attnzoo.zoo.export.verification import largest_error, shapes_to_check, staged

from .models import tiny


def test_wrong_shapes_and_failing_runtimes_are_errors():
    part = exportable(tiny("metaformer"))
    for run, message in (
        (lambda images: [torch.zeros(1, 5)], r"returns logits with shape \(1, 5\)"),
        (lambda images: [images / (1 // 0)], "does not run on images of shape .*by zero"),
        (lambda images: [torch.full((2, 5), torch.nan)], "differs from PyTorch in logits by nan"),
    ):
        with pytest.raises(ExportError, match=message):
            largest_error(part, run, [(2, 3, 32, 32)], ["logits"], 1e-4, pixels=False)


def test_the_largest_relative_difference_is_returned():
    class Constant(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.tensor([1.0, -4.0]), torch.tensor([2.0])

    error = largest_error(
        Constant(), lambda images: [torch.tensor([1.0, -4.2]), torch.tensor([2.0])], [(1,), (2,)], "ab", 0.1, False
    )
    assert error == pytest.approx(0.05)


def test_other_batches_and_sizes_are_checked_if_they_are_dynamic():
    images = torch.zeros(2, 3, 64, 96)
    assert shapes_to_check(images, False, False, 32) == [(2, 3, 64, 96)]
    assert shapes_to_check(images, True, False, 32) == [(2, 3, 64, 96), (1, 3, 64, 96), (3, 3, 64, 96)]
    assert shapes_to_check(images, False, True, 32) == [(2, 3, 64, 96), (2, 3, 96, 160)]


def test_staged_files_appear_together_or_not_at_all(tmp_path: Path):
    path = tmp_path / "new" / "model.onnx"

    def write_half() -> None:
        with staged(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert list(path.parent.iterdir()) == []
    with staged(path) as temporary:
        temporary.write_bytes(b"model")
        temporary.with_name("model.onnx.data").write_bytes(b"weights")
        assert not path.exists()
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == {
        "model.onnx": b"model",
        "model.onnx.data": b"weights",
    }
