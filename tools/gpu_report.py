"""Convert a report of gpu_check.py to Markdown tables, and print them or insert them into documents."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import json
import sys
from pathlib import Path

from attnzoo.names import unknown_name
from attnzoo.tools.arguments import UserError, user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="gpu_report",
        description=__doc__,
        epilog="Blocks are environment, tests, models, and one per operation, such as neighborhood. A document has a "
        "block between the lines <!-- gpu-check:NAME --> and <!-- /gpu-check:NAME -->.",
    )
    parser.add_argument("report", metavar="REPORT", type=Path, help="JSON file that gpu_check.py wrote")
    parser.add_argument("--block", action="append", metavar="NAME", help="print only this block; may be repeated")
    parser.add_argument(
        "--write",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="replace the blocks in these documents instead of printing",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.tools.benchmarking.gpu_tables import blocks, fill_markers
    from attnzoo.zoo.files import write_text

    with user_errors() as outcome:
        markdown = blocks(_read_report(args.report))
        for name in args.block or []:
            if name not in markdown:
                raise UserError(unknown_name("block", name, markdown))
        if args.write is None:
            for name in args.block or markdown:
                print(f"<!-- gpu-check:{name} -->\n{markdown[name]}\n<!-- /gpu-check:{name} -->\n")
            return outcome.code
        for path in args.write:
            try:
                document, names = fill_markers(path.read_text(encoding="utf-8"), markdown)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from error
            write_text(path, document)
            print(f"{path}: {', '.join(names)}")
    return outcome.code


def _read_report(path: Path) -> dict[str, object]:
    """Reads a report.

    Raises:
        UserError: If the file is not a report of gpu_check.py.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("parts"), dict):
        raise UserError(f"{path} is not a report of gpu_check.py: it has no parts.")
    return report


if __name__ == "__main__":
    sys.exit(main())
