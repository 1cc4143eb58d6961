"""Write scikit-learn's handwritten digits as an image folder: data/digits/{train,val}/{0..9}/*.png."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path

from attnzoo.tools.arguments import user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="make_digits",
        description="Write scikit-learn's 1797 handwritten digits as an image folder with a fixed stratified split.",
    )
    parser.add_argument("--out", default="data/digits", help="folder to write (default: %(default)s)")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels, >= 8 (default: 32)")
    parser.add_argument(
        "--interpolation",
        default="bicubic",
        help="interpolation for enlarging the 8x8 digits, such as nearest (default: bicubic)",
    )
    parser.add_argument(
        "--val-fraction", type=float, default=0.2, help="fraction of each class for validation (default: 0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace a folder that was made with other settings")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.data.examples.digits import RECORD, make_digits
    from attnzoo.zoo.data.examples.folder import read_record

    with user_errors() as outcome:
        written = make_digits(args.out, args.size, args.interpolation, args.val_fraction, args.seed, args.force)
        record = read_record(Path(args.out), RECORD)
        assert record is not None
        counts = record["counts"]
        state = "written" if written else "already there"
        print(f"{args.out}: {counts['train']} training and {counts['val']} validation images, {state}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
