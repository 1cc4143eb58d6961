"""Reports of an export."""

from __future__ import annotations

from pathlib import Path

from attnzoo.zoo.export import ExportReport


def test_a_report_is_a_sentence():
    report = ExportReport(
        Path("a.onnx"), "onnx", ("logits",), ("batch",), ((2, 3, 8, 8), (1, 3, 8, 8)), 2e-7, 1_500_000
    )
    assert str(report) == (
        "a.onnx: logits (onnx, 1.5 MB). Largest relative difference from PyTorch 2.0e-07, on images 2x3x8x8, 1x3x8x8. "
        "Dynamic axes: batch."
    )
    fixed = ExportReport(Path("a.pt2"), "torch.export", ("map0", "map1"), (), ((1, 3, 8, 8),), 0.0, 1)
    assert str(fixed).endswith("All axes are fixed.")
