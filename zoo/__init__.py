"""The zoo and its pipeline: weights, tasks, data, evaluation, training, inference, export.

The most common functions are available here. They are imported on first use, because the parts of this package need
different libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .factory import create_model
    from .interop import register_in_timm
    from .weights import LoadReport, extract_state_dict, load_weights, read_checkpoint

_SOURCES = {
    "create_model": ".factory",
    "register_in_timm": ".interop",
    "LoadReport": ".weights",
    "extract_state_dict": ".weights",
    "load_weights": ".weights",
    "read_checkpoint": ".weights",
}

__all__ = ["LoadReport", "create_model", "extract_state_dict", "load_weights", "read_checkpoint", "register_in_timm"]


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_SOURCES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
