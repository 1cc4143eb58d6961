"""Write MODELS.md, a table of all models and checkpoints, and a plot of their accuracy.

Needs a checkout. Each model runs once on PyTorch's meta device, to record which kernels it calls, and on the reference
outputs of its original implementation, if the tests have some.
"""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from attnzoo import create_model, get_pretrained_cfg, list_models
from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.zoo.analysis.catalog import ModelMeasurement
from attnzoo.zoo.files import write_bytes, write_json
from attnzoo.zoo.plots.catalog import catalog_page, draw_catalog

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "MODELS.md"
PLOT = ROOT / "docs" / "models.png"
MEASURED = ROOT / "docs" / "models.json"
_KERNELS = {"ranged_attention_2d": "neighborhood", "routed_attention_2d": "routing"}  # folder of each operator


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--only-page", action="store_true", help="measure only models that docs/models.json does not list"
    )
    args = parser.parse_args(argv)
    with user_errors() as outcome:
        if not (ROOT / "tests" / "support").is_dir():
            raise UserError(
                "tools/models.py needs a checkout, because it compares models with the tests' reference outputs."
            )
        known = read_measured() if args.only_page and MEASURED.exists() else {}
        names = list_models()
        new = [name for name in names if name not in known]
        known |= dict(zip(new, measure(tqdm(new, unit="model", disable=None)), strict=True))
        measured = {name: known[name] for name in names}
        write_json(MEASURED, {name: asdict(measurement) for name, measurement in measured.items()})
        write_bytes(PAGE, page(measured).encode())
        draw_catalog(PLOT)
        for path in (PAGE, PLOT, MEASURED):
            print(f"wrote {path.relative_to(ROOT)}")
    return outcome.code


def read_measured() -> dict[str, ModelMeasurement]:
    """Reads the measurements of the last run by model name."""
    content: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {name: ModelMeasurement(entry["parity"], tuple(entry["kernels"])) for name, entry in content.items()}


def page(measured: dict[str, ModelMeasurement]) -> str:
    """Returns the text of MODELS.md."""
    return catalog_page(measured, plot=PLOT.relative_to(ROOT).as_posix())


def measure(names: Iterable[str]) -> Iterable[ModelMeasurement]:
    """Measures models one after the other."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.append(str(ROOT / "tests"))
    from support.parity import worst_error

    for name in names:
        error = worst_error(name)
        yield ModelMeasurement(None if error is None else float(f"{error:.0e}"), kernels_of(name))


def kernels_of(name: str) -> tuple[str, ...]:
    """Returns the folders of `attnzoo.kernels` whose operators a model calls for one image."""
    with torch.device("meta"):
        model = create_model(name, num_classes=0).eval()
        images = torch.empty(1, *get_pretrained_cfg(name).input_size)
    with _Operators() as operators, torch.no_grad():
        model(images)
    return tuple(sorted({_KERNELS[name] for name in operators.called}))


class _Operators(TorchDispatchMode):
    """Records the calls of the zoo's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "attnzoo":
            self.called.add(func._opname)
        return func(*args, **(kwargs or {}))


if __name__ == "__main__":
    sys.exit(main())
