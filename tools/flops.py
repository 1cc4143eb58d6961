"""Count a model's multiply-accumulates, parameters and activations for one image, by module."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from attnzoo.tools.arguments import (
    UserError,
    add_model_arguments,
    load_model_from_arguments,
    size_from_arguments,
    user_errors,
)

if TYPE_CHECKING:
    from attnzoo.zoo.analysis.flops import ModelCost
    from attnzoo.zoo.model_loading import LoadedModel


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="flops",
        description="Count multiply-accumulates (half of the floating-point operations) of convolutions, matrix "
        "products and attention, including attnzoo's own operators. The model runs on the meta device: nothing is "
        "computed, and no weights are read.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--features-only", action="store_true", help="count only the backbone; MODEL must be a model name"
    )
    parser.add_argument("--depth", type=int, default=1, help="depth of the modules in the table (default: 1)")
    parser.add_argument(
        "--proposals", type=int, default=1000, help="number of regions in a detector's box heads (default: 1000)"
    )
    parser.add_argument(
        "--detections", type=int, default=100, help="number of regions in a detector's mask heads (default: 100)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--out", help="also write the JSON to this file")
    return parser.parse_args(argv)


def as_json(loaded: LoadedModel, cost: ModelCost, depth: int) -> dict[str, Any]:
    """Converts the costs to JSON, with modules down to `depth`."""
    from attnzoo.zoo.analysis.summary import library_versions

    return {
        "model": loaded.name,
        "architecture": loaded.architecture,
        "flops": cost.flops,
        **{name: value for name, value in asdict(cost).items() if name != "modules"},
        "modules": [asdict(module) for module in cost.modules if 0 < module.depth <= depth],
        "versions": library_versions(),
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.analysis.flops import count_cost
    from attnzoo.zoo.files import write_json
    from attnzoo.zoo.plots.tables import cost_table, format_count

    with user_errors() as outcome:
        if args.depth < 0:
            raise UserError(f"--depth must be >= 0, got {args.depth}.")
        options = {"features_only": True} if args.features_only else {}
        loaded = load_model_from_arguments(args, on_meta=True, **options)
        size = size_from_arguments(args, loaded.image_size)
        cost = count_cost(loaded.model, size, loaded.in_chans, args.proposals, args.detections)
        content = as_json(loaded, cost, args.depth)
        if args.json:
            print(json.dumps(content, indent=2))
        else:
            print(cost_table(cost, args.depth))
            regions = "".join(
                f", {count} {name}"
                for name, count in (("proposals", cost.proposals), ("detections", cost.detections))
                if count
            )
            macs, flops, parameters, activations = map(
                format_count, (cost.macs, cost.flops, cost.parameters, cost.activations)
            )
            print(
                f"\n{loaded.name}, an image of {size[0]} x {size[1]} pixels{regions}: {macs} MACs = {flops} FLOPs, "
                f"{parameters} parameters, {activations} activations"
            )
        if args.out:
            write_json(args.out, content)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
