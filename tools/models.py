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
from typing import TYPE_CHECKING, Any

from attnzoo.tools.arguments import UserError, user_errors

if TYPE_CHECKING:
    from attnzoo.zoo.analysis.catalog import ModelMeasurement

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "MODELS.md"
PLOT = ROOT / "docs" / "models.png"
MEASURED = ROOT / "docs" / "models.json"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="models", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--only-page", action="store_true", help="measure only models that docs/models.json does not list"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from tqdm import tqdm

    from attnzoo import list_models
    from attnzoo.zoo.files import write_bytes, write_json
    from attnzoo.zoo.plots.catalog import draw_catalog

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
    from attnzoo.zoo.analysis.catalog import ModelMeasurement

    content: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {name: ModelMeasurement(entry["parity"], tuple(entry["kernels"])) for name, entry in content.items()}


def page(measured: dict[str, ModelMeasurement]) -> str:
    """Returns the text of MODELS.md."""
    from attnzoo.zoo.plots.catalog import catalog_page

    return catalog_page(measured, plot=PLOT.relative_to(ROOT).as_posix())


def measure(names: Iterable[str]) -> Iterable[ModelMeasurement]:
    """Measures models one after the other."""
    from attnzoo.zoo.analysis.catalog import ModelMeasurement, called_kernels

    if str(ROOT / "tests") not in sys.path:
        sys.path.append(str(ROOT / "tests"))
    from support.parity import worst_error

    for name in names:
        error = worst_error(name)
        yield ModelMeasurement(None if error is None else float(f"{error:.0e}"), called_kernels(name))


if __name__ == "__main__":
    sys.exit(main())
