"""Predict for images: write images with the predictions drawn, and predictions.json."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.zoo.files import temporary_name, write_json
from attnzoo.zoo.inference import DetectionResult, Predictor, Result, SegmentationResult
from attnzoo.zoo.inference.inputs import find_sources

PICTURES = "pictures"
LABEL_MAPS = "label_maps"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="predict",
        description="Predict classes, objects or label maps of images; draw them, and write them to predictions.json.",
        epilog="Files that cannot be read are skipped, reported and listed in predictions.json. Exit codes: 0 done; 2 "
        "wrong arguments, or no image could be read.",
    )
    parser.add_argument("inputs", metavar="IMAGE", nargs="+", help="files, folders, patterns ('photos/**/*.jpg'), URLs")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="a classifier by name: nat_mini, nat_mini.in1k, hf-hub:owner/name")
    which.add_argument("--config", help="a config, by path or by a shipped one's name, or the work dir of a training")
    parser.add_argument(
        "--weights",
        help="a file, URL, hf-hub:owner/name or work dir (default: the published ones, or a work dir's best)",
    )
    parser.add_argument("--out", default="predictions", help="folder for what is written (default: predictions)")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, help="leave out objects with a lower score (default: 0.3)"
    )
    parser.add_argument("--topk", type=int, default=5, help="classes an image (default: 5)")
    parser.add_argument("--classes", help="file with the classes' names, .txt or .json, or imagenet-1k")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (default: float32)")
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.json alone")
    parser.add_argument(
        "--label-maps", action="store_true", help="segmentation: also write label maps, as PNG with a palette"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="changes to the config"
    )
    return parser.parse_args(argv)


class Places:
    """Names for files that are written, one an image: never a name twice, never over an image that was given.

    Args:
        inputs: what was given; pictures of a folder's images keep their places below it.
        taken: files that must stay as they are.
    """

    def __init__(self, inputs: list[str], taken: set[Path]) -> None:
        self._roots = [Path(given).expanduser().resolve() for given in inputs if Path(given).expanduser().is_dir()]
        self._taken = taken
        self._used: set[str] = set()

    def choose(self, folder: Path, result: Result) -> Path:
        """Names the file of a result in a folder."""
        assert result.path is not None, "a command line names files and addresses"
        name = Path(urlsplit(result.path).path if "://" in result.path else result.path)
        place = name.resolve()
        root = next((root for root in self._roots if place.is_relative_to(root)), None)
        inner = place.relative_to(root) if root is not None else Path(name.name)
        stem, number = inner.with_suffix(""), 1
        while True:
            chosen = folder / f"{stem}{'' if number == 1 else f'_{number}'}.png"
            key = str(chosen).lower()  # some file systems do not tell letter cases apart
            if key not in self._used and chosen.resolve() not in self._taken:
                self._used.add(key)
                return chosen
            number += 1


def write_image(path: Path, image: Any) -> None:
    """Writes a PNG atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        image.save(temporary, format="PNG")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def find_files(inputs: list[str]) -> set[Path]:
    """Lists the files that were given, and so finds mistakes before a model is built.

    Raises:
        ValueError: something given does not exist, or holds no image.
    """
    sources = [source for given in inputs for source in find_sources(given)]
    return {Path(source.path).resolve() for source in sources if source.path and "://" not in source.path}


def build_predictor(args: argparse.Namespace) -> Predictor:
    """Builds the predictor that the command line asks for.

    Raises:
        ValueError: there is no such model, or the weights do not fit.
    """
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


def predict(predictor: Predictor, args: argparse.Namespace, given: set[Path]) -> list[dict[str, Any]]:
    """Predicts, and writes pictures on the way.

    Returns:
        An entry an image.
    """
    out = Path(args.out)
    places = Places(args.inputs, given)
    entries = []
    # A list, even of one, is skipped over where a single image would raise.
    for result in predictor.stream(args.inputs, progress=None):
        if isinstance(result, DetectionResult):
            result = result.above(args.score_threshold)
        entry = result.to_dict()
        if not args.no_pictures:
            options = {"score_threshold": args.score_threshold} if isinstance(result, DetectionResult) else {}
            path = places.choose(out / PICTURES, result)
            write_image(path, result.draw(**options))
            entry["picture"] = path.relative_to(out).as_posix()
        if args.label_maps and isinstance(result, SegmentationResult):
            path = places.choose(out / LABEL_MAPS, result)
            write_image(path, result.to_image())
            entry["label_map"] = path.relative_to(out).as_posix()
        entries.append(entry)
    return entries


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        if not 0 <= args.score_threshold <= 1:
            raise UserError(f"--score-threshold is {args.score_threshold}; it is a score from 0 to 1.")
        out = Path(args.out)
        if out.exists() and not out.is_dir():
            raise UserError(f"--out is {out}, a file: it must be a folder.")
        given = find_files(args.inputs)
        target = out / "predictions.json"
        if target.resolve() in given:
            raise UserError(f"{target} would be overwritten, and is one of the inputs: choose another --out.")
        predictor = build_predictor(args)
        if args.label_maps and predictor.kind != "segmentation":
            raise UserError(f"--label-maps needs a model for segmentation; {predictor.name} does {predictor.kind}.")
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* were skipped")  # reported below
            entries = predict(predictor, args, given)
        for one in predictor.skipped:
            print(f"skipped: {one.name}: {one.reason}", file=sys.stderr)
        if not entries:
            raise UserError("None of the images could be read.")
        content = {
            "task": predictor.kind,
            "model": predictor.name,
            "weights": predictor.weights,
            "classes": list(predictor.classes),
            "predictions": entries,
            "skipped": [one._asdict() for one in predictor.skipped],
        }
        write_json(target, content, indent=None)
        seconds = time.perf_counter() - begin
        skipped = f", {len(predictor.skipped)} skipped" if predictor.skipped else ""
        print(f"{target}: {len(entries)} images in {seconds:.1f} s{skipped}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
