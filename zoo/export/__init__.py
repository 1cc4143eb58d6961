"""Models as programs of torch.export and as ONNX files, checked against PyTorch before they are kept."""

from .checking import ExportError, ExportReport
from .onnx import export_onnx
from .parts import PARTS, Exportable, exportable
from .programs import export_program

__all__ = ["PARTS", "ExportError", "ExportReport", "Exportable", "export_onnx", "export_program", "exportable"]
