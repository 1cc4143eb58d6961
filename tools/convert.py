"""Convert a data set with objects (YOLO, Pascal VOC, LabelMe) to COCO's format."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys

from attnzoo.tools.arguments import user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="convert",
        description="Convert a data set with boxes or polygons to COCO's format; its own format is recognized.",
    )
    parser.add_argument("source", metavar="SOURCE", help="folder or file of the data set")
    parser.add_argument("out", metavar="OUT", help="new folder to write")
    parser.add_argument("--to", choices=["coco"], default="coco", help="format to write (default: coco)")
    parser.add_argument("--format", help="name of the source's format, if it is not recognized")
    parser.add_argument(
        "--images",
        choices=["copy", "link", "none"],
        default="copy",
        help="copy the images, make symbolic links to them, or write the annotations alone (default: copy)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        from attnzoo.zoo.data.formats import read_data
        from attnzoo.zoo.data.formats.conversion import write_coco

        name, content = read_data(args.source, args.format)
        folder = write_coco(content, args.out, args.images)
        counts = ", ".join(f"{content.count(split):,} {split}" for split in content.splits)
        print(f"{folder}: {name} to COCO JSON, {len(content.classes)} classes; images: {counts}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
