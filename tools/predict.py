"""Run a model on images, and write its predictions as images and as predictions.json."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.tools.arguments import UserError, user_errors

if TYPE_CHECKING:
    from attnzoo.zoo.inference import Predictor

PICTURES = "pictures"
LABEL_MAPS = "label_maps"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="predict",
        description="Predict classes, objects or label maps of images, draw them onto the images, and write them to "
        "predictions.json.",
        epilog="Files that cannot be read are skipped, reported and listed in predictions.json. Exit codes: 0 done; 2 "
        "wrong arguments, or no readable image.",
    )
    parser.add_argument(
        "inputs", metavar="IMAGE", nargs="+", help="file, folder, glob pattern ('photos/**/*.jpg') or URL"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="name of a classifier: nat_mini, nat_mini.in1k or hf-hub:owner/name")
    source.add_argument("--config", help="path of a config, name of a shipped one, or work dir of a training run")
    parser.add_argument(
        "--weights",
        help="file, URL, hf-hub:owner/name or work dir (default: the published weights, or the best of the work dir)",
    )
    parser.add_argument("--out", default="predictions", help="output folder (default: predictions)")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, help="minimum score of a detection (default: 0.3)"
    )
    parser.add_argument("--topk", type=int, default=5, help="number of classes per image (default: 5)")
    parser.add_argument("--classes", help="file with the class names (.txt or .json), or imagenet-1k")
    parser.add_argument("--batch-size", type=int, default=8, help="images per batch (default: 8)")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: cuda if available)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (default: float32)")
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.json but no images")
    parser.add_argument(
        "--label-maps", action="store_true", help="for segmentors, also write label maps as PNGs with a palette"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings that override the config's",
    )
    return parser.parse_args(argv)


def find_files(inputs: list[str]) -> set[Path]:
    """Returns the resolved paths of all input files. Called before the model is built, to report mistakes early.

    Raises:
        ValueError: If an input does not exist or contains no image.
    """
    from attnzoo.zoo.inference.inputs import find_sources

    sources = [source for given in inputs for source in find_sources(given)]
    return {Path(source.path).resolve() for source in sources if source.path and "://" not in source.path}


def build_predictor(args: argparse.Namespace) -> Predictor:
    """Builds the predictor of a command line.

    Raises:
        ValueError: If there is no such model, or the weights do not fit.
    """
    from attnzoo.zoo.inference import Predictor

    return Predictor(
        args.model or args.config,
        args.weights,
        device=args.device,
        batch_size=args.batch_size,
        topk=args.topk,
        dtype=args.dtype,
        classes=args.classes,
        cfg_options=args.cfg_options or None,
    )


def predict(predictor: Predictor, args: argparse.Namespace, files: set[Path]) -> list[dict[str, Any]]:
    """Predicts and writes images.

    Args:
        predictor: The predictor.
        args: The command line.
        files: Input files, which are not overwritten.

    Returns:
        The entries of predictions.json, one per image.
    """
    from attnzoo.zoo.inference import DetectionResult, SegmentationResult
    from attnzoo.zoo.inference.output_files import OutputPaths, write_image

    out = Path(args.out)
    paths = OutputPaths(args.inputs, files)
    entries = []
    # A broken file in a list is skipped; a single broken image that is not in a list would raise.
    for result in predictor.stream(args.inputs, progress=None):
        if isinstance(result, DetectionResult):
            result = result.above(args.score_threshold)
        entry = result.to_dict()
        if not args.no_pictures:
            options = {"score_threshold": args.score_threshold} if isinstance(result, DetectionResult) else {}
            path = paths.choose(out / PICTURES, result)
            write_image(path, result.draw(**options))
            entry["picture"] = path.relative_to(out).as_posix()
        if args.label_maps and isinstance(result, SegmentationResult):
            path = paths.choose(out / LABEL_MAPS, result)
            write_image(path, result.to_image())
            entry["label_map"] = path.relative_to(out).as_posix()
        entries.append(entry)
    return entries


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.files import write_json
    from attnzoo.zoo.folder_lock import RESULTS_LOCK, FolderLock

    with ExitStack() as stack, user_errors() as outcome:
        if not 0 <= args.score_threshold <= 1:
            raise UserError(f"--score-threshold must be between 0 and 1, got {args.score_threshold}.")
        out = Path(args.out)
        if out.exists() and not out.is_dir():
            raise UserError(f"--out must be a folder, got the file {out}.")
        files = find_files(args.inputs)
        target = out / "predictions.json"
        if target.resolve() in files:
            raise UserError(f"The input {target} would be overwritten. Choose another --out.")
        predictor = build_predictor(args)
        if args.label_maps and predictor.kind != "segmentation":
            raise UserError(
                f"--label-maps needs a segmentation model, but {predictor.name} is a {predictor.kind} model."
            )
        stack.enter_context(FolderLock(out, RESULTS_LOCK, "Wait for it, or choose another --out."))
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* were skipped")  # reported below
            entries = predict(predictor, args, files)
        for file in predictor.skipped:
            print(f"skipped: {file.name}: {file.reason}", file=sys.stderr)
        if not entries:
            raise UserError("None of the images could be read.")
        report = {
            "task": predictor.kind,
            "model": predictor.name,
            "weights": predictor.weights,
            "classes": list(predictor.classes),
            "predictions": entries,
            "skipped": [file._asdict() for file in predictor.skipped],
        }
        write_json(target, report, indent=None)
        seconds = time.perf_counter() - start
        skipped = f", {len(predictor.skipped)} skipped" if predictor.skipped else ""
        print(f"{target}: {len(entries)} images in {seconds:.1f} s{skipped}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
