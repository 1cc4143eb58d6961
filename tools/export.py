"""Export a model to ONNX or as a program of torch.export, compared with PyTorch before the file is kept."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attnzoo import __version__
from attnzoo.tools.arguments import (
    UserError,
    add_model_arguments,
    load_model_from_arguments,
    size_from_arguments,
    user_errors,
)
from attnzoo.zoo.export import PARTS, export_onnx, export_program, exportable
from attnzoo.zoo.model_loading import LoadedModel

SUFFIXES = {"onnx": ".onnx", "program": ".pt2"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="export",
        description="Export a backbone, a classifier, a segmentor's logits or a single-stage detector's maps, in "
        "torch's own operators. The file is compared with PyTorch and kept only where both agree.",
        epilog="The file's metadata hold the model's name, its classes and how images are normalized.",
    )
    add_model_arguments(parser)
    parser.add_argument("--out", help="file to write (default: MODEL's name with .onnx or .pt2 in this folder)")
    parser.add_argument(
        "--format", choices=SUFFIXES, help="onnx, or program: torch.export (default: by --out, or onnx)"
    )
    parser.add_argument("--part", choices=PARTS, default="whole", help="what of the model (default: whole)")
    parser.add_argument("--features-only", action="store_true", help="of a model's name: the maps of its stages")
    parser.add_argument("--out-indices", type=int, nargs="+", help="of --features-only: which stages")
    parser.add_argument("--batch-size", type=int, default=2, help="images, where the batch is fixed (default: 2)")
    parser.add_argument("--fixed-batch", action="store_true", help="take --batch-size images, not any number")
    parser.add_argument(
        "--dynamic-size", action="store_true", help="take images of any height and width, where possible"
    )
    parser.add_argument("--normalise", action="store_true", help="take pixel values of 0 to 255 and normalize inside")
    parser.add_argument("--opset", type=int, help="version of ONNX's operators (default: torch's)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="accepted relative difference (default: 1e-4)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv)
    if args.out_indices and not args.features_only:
        parser.error("--out-indices needs --features-only")
    return args


def destination(args: argparse.Namespace) -> tuple[str, Path]:
    """Finds the format and the file to write.

    Raises:
        UserError: the file's ending belongs to another format, or to none.
    """
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    if args.out is None:
        chosen = args.format or "onnx"
        stem = args.model.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".py")
        return chosen, Path(stem + SUFFIXES[chosen])
    path = Path(args.out)
    meant = by_suffix.get(path.suffix)
    if meant is None or (args.format and args.format != meant):
        expected = SUFFIXES[args.format] if args.format else " or ".join(by_suffix)
        raise UserError(f"--out {args.out}: the file's name must end with {expected}.")
    return meant, path


def metadata_of(loaded: LoadedModel, args: argparse.Namespace, size: tuple[int, int]) -> dict[str, str]:
    """Returns what a user of the file needs to know, as strings."""
    texts: dict[str, Any] = {
        "attnzoo.version": __version__,
        "attnzoo.model": loaded.architecture,
        "attnzoo.part": args.part,
        "attnzoo.image_size": list(size),
        "attnzoo.input": "pixel values of 0 to 255, RGB" if args.normalise else "(pixel / 255 - mean) / std, RGB",
        "attnzoo.mean": loaded.mean,
        "attnzoo.std": loaded.std,
    }
    if loaded.classes:
        texts["attnzoo.classes"] = loaded.classes
    return {name: text if isinstance(text, str) else json.dumps(text) for name, text in texts.items()}


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        kind, path = destination(args)
        options = {"features_only": True, "out_indices": args.out_indices} if args.features_only else {}
        loaded = load_model_from_arguments(args, **options)
        size = size_from_arguments(args, loaded.image_size)
        mean, std = (loaded.mean, loaded.std) if args.normalise else (None, None)
        settings: dict[str, Any] = {
            "in_chans": loaded.in_chans,
            "batch_size": args.batch_size,
            "dynamic_batch": not args.fixed_batch,
            "dynamic_size": args.dynamic_size,
            "tolerance": args.tolerance,
            "metadata": metadata_of(loaded, args, size),
        }
        part = exportable(loaded.model, args.part, mean, std)
        if kind == "onnx":
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
