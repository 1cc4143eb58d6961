"""Exports models as torch.export programs and ONNX files, each compared with PyTorch before it is kept."""

from .metadata import file_metadata
from .onnx import export_onnx
from .parts import PARTS, Exportable, exportable
from .program import export_program
from .report import ExportError, ExportReport

__all__ = [
    "PARTS",
    "ExportError",
    "ExportReport",
    "Exportable",
    "export_onnx",
    "export_program",
    "exportable",
    "file_metadata",
]
