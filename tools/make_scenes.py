"""Write scenes of handwritten digits on textured ground, as a COCO data set and as pairs of image and label map."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path

from attnzoo.tools.arguments import user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="make_scenes",
        description="Write scenes of handwritten digits as a COCO data set and as image and label map pairs.",
    )
    parser.add_argument("--out", default="data/scenes", help="folder to write (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels, >= 64 (default: 128)")
    parser.add_argument("--train", type=int, default=3200, help="number of training scenes (default: 3200)")
    parser.add_argument("--val", type=int, default=100, help="number of validation scenes (default: 100)")
    parser.add_argument("--most", type=int, default=4, help="maximum number of digits per scene (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace a folder that was made with other settings")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.data.examples.folder import read_record
    from attnzoo.zoo.data.examples.scenes import RECORD, make_scenes

    with user_errors() as outcome:
        written = make_scenes(args.out, args.size, args.train, args.val, args.most, args.seed, args.force)
        record = read_record(Path(args.out), RECORD)
        assert record is not None
        settings = record["settings"]
        state = "written" if written else "already there"
        print(f"{args.out}: {settings['train']} training and {settings['val']} validation scenes, {state}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
