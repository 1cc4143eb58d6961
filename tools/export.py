"""Export a model to ONNX or torch.export, and verify its outputs against PyTorch."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attnzoo.tools.arguments import (
    UserError,
    add_model_arguments,
    load_model_from_arguments,
    size_from_arguments,
    user_errors,
)

SUFFIXES = {"onnx": ".onnx", "program": ".pt2"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="export",
        description="Export a backbone, a classifier, the logits of a segmentor or the maps of a single-stage "
        "detector, using only PyTorch's own operators. The file is kept only if its outputs match PyTorch's.",
        epilog="The file's metadata contain the model's name, its classes and the preprocessing of images: size, crop, "
        "interpolation and normalization.",
    )
    add_model_arguments(parser)
    parser.add_argument("--out", help="file to write (default: the name of MODEL with .onnx or .pt2)")
    parser.add_argument(
        "--format",
        choices=SUFFIXES,
        help="onnx, or program for torch.export (default: by the suffix of --out, or onnx)",
    )
    parser.add_argument(
        "--part",
        default="whole",
        help="part of the model to export, such as backbone or neck; models differ in their parts (default: whole)",
    )
    parser.add_argument(
        "--features-only", action="store_true", help="export the backbone's feature maps; MODEL must be a model name"
    )
    parser.add_argument("--out-indices", type=int, nargs="+", help="indices of the stages for --features-only")
    parser.add_argument("--batch-size", type=int, default=2, help="batch size of the example images (default: 2)")
    parser.add_argument("--fixed-batch", action="store_true", help="accept only batches of --batch-size images")
    parser.add_argument(
        "--dynamic-size", action="store_true", help="accept images of any height and width, if the model can"
    )
    parser.add_argument(
        "--normalize",
        "--normalise",
        action="store_true",
        help="accept pixel values from 0 to 255, and normalize them in the exported model",
    )
    parser.add_argument("--opset", type=int, help="ONNX opset version (default: torch's)")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, help="maximum relative error of the outputs (default: 1e-4)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv)
    if args.out_indices and not args.features_only:
        parser.error("--out-indices needs --features-only")
    return args


def destination(args: argparse.Namespace) -> tuple[str, Path]:
    """Returns the format and the file to write.

    Raises:
        UserError: If the suffix of the file does not match a format, or not the given one.
    """
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    if args.out is None:
        format_name = args.format or "onnx"
        stem = args.model.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".py")
        return format_name, Path(stem + SUFFIXES[format_name])
    path = Path(args.out)
    format_name = by_suffix.get(path.suffix)
    if format_name is None or (args.format and args.format != format_name):
        expected = SUFFIXES[args.format] if args.format else " or ".join(by_suffix)
        raise UserError(f"--out must end with {expected}, got {args.out}.")
    return format_name, path


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.export import export_onnx, export_program, exportable, file_metadata

    with user_errors() as outcome:
        format_name, path = destination(args)
        options = {"features_only": True, "out_indices": args.out_indices} if args.features_only else {}
        loaded = load_model_from_arguments(args, **options)
        if loaded.has_random_weights:
            print(
                f"warning: {args.model} has random weights. --pretrained or --weights loads trained ones.",
                file=sys.stderr,
            )
        size = size_from_arguments(args, loaded.evaluation_size)
        mean, std = (loaded.mean, loaded.std) if args.normalize else (None, None)
        settings: dict[str, Any] = {
            "in_chans": loaded.in_chans,
            "batch_size": args.batch_size,
            "dynamic_batch": not args.fixed_batch,
            "dynamic_size": args.dynamic_size,
            "tolerance": args.tolerance,
        }
        part = exportable(loaded.model, args.part, mean, std)
        settings["metadata"] = {
            **file_metadata(part, size, loaded.preprocessing),
            "attnzoo.part": args.part,
            "attnzoo.weights": loaded.weights,
        }
        if format_name == "onnx":
            report = export_onnx(part, path, size, opset=args.opset, **settings)
        else:
            report = export_program(part, path, size, **settings)
        if args.json:
            fields = {**vars(report), "path": str(report.path)}
            print(json.dumps(fields))
        else:
            print(report)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
