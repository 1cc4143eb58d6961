"""Benchmark attention kernels: attnzoo's and other implementations of the same operation, on a CPU or a GPU.

All implementations are measured in one run and in alternation, so that other load on the machine affects all of them
alike. Times are medians: of process CPU time on a CPU, of CUDA events on a GPU. Memory is the peak of live allocations
beyond the operands, as torch's allocators report it.
"""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.tools.arguments import user_errors
from attnzoo.tools.benchmarking.names import DTYPE_NAMES, OPERATION_OPTIONS

if TYPE_CHECKING:
    from attnzoo.tools.benchmarking.kernels import Rows
    from attnzoo.tools.benchmarking.operations import MapSize


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark_kernels",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument(
        "--operation", default="neighborhood", choices=list(OPERATION_OPTIONS), help="operation (default: neighborhood)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if available, else cpu")
    parser.add_argument("--dtype", choices=DTYPE_NAMES, help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--batch-size", type=int, help="images per batch (default: 8 on a CPU, 64 on a GPU)")
    for options in OPERATION_OPTIONS.values():
        for name, option in options.items():
            help_text = option.help if option.default is None else f"{option.help} (default: {option.default})"
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=option.default, help=help_text)
    parser.add_argument("--dim", type=int, default=32, help="channels per head (default: 32)")
    parser.add_argument(
        "--sizes",
        type=_parse_size,
        nargs="+",
        metavar="SIZE",
        help="map sizes, such as 56 or 154x126 (default: those of a published model's stages)",
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on a CPU (default: 1)")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns per implementation (default: 7)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only these implementations")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code: 1 if the implementations' results differ."""
    args = parse_args(argv)
    import torch

    from attnzoo.tools.benchmarking.kernels import has_disagreement, measure_problem
    from attnzoo.tools.benchmarking.operations import OPERATIONS
    from attnzoo.tools.benchmarking.precision import DTYPES, default_device, default_dtype
    from attnzoo.zoo.analysis.timing import device_name
    from attnzoo.zoo.files import write_json

    with user_errors() as outcome:
        device = default_device() if args.device is None else torch.device(args.device)
        dtype = DTYPES[args.dtype or default_dtype(device)]
        batch_size = args.batch_size or (8 if device.type == "cpu" else 64)
        torch.set_num_threads(args.threads)
        operation = OPERATIONS[args.operation]
        options = {name: getattr(args, name) for name in operation.options}
        report: dict[str, Any] = {
            "operation": args.operation,
            "device": device_name(device),
            "torch": str(torch.__version__),
            "dtype": str(dtype).removeprefix("torch."),
            "batch_size": batch_size,
            **options,
            "dim": args.dim,
            "threads": args.threads,
            "repeats": args.repeats,
            "unit": {"time": "CPU ms" if device.type == "cpu" else "ms", "memory": "bytes beyond operands"},
            "maps": [],
        }
        print(f"{report['device']}, torch {report['torch']}, {report['dtype']}, batch {batch_size}, ", end="")
        print(f"{args.operation}, dim {args.dim}, {args.threads} threads, median of {args.repeats}")
        for size in args.sizes or operation.sizes:
            problem = operation.build(size, batch_size, args.dim, dtype, device, **options)
            rows = measure_problem(problem, dtype, device, args.repeats, args.only)
            report["maps"].append({**problem.settings, "implementations": rows})
            print_table(", ".join(f"{name} {value}" for name, value in problem.settings.items()), rows)
            if has_disagreement(rows):
                print("error: some results differ from the reference", file=sys.stderr)
                outcome.code = 1
        if args.out:
            write_json(args.out, report)
    return outcome.code


def print_table(title: str, rows: Rows) -> None:
    """Prints the measurements of one map size."""
    print(f"\n{title}")
    print(f"{'':24}{'forward':>12}{'+backward':>12}{'ratio':>8}{'ratio':>8}{'MB':>10}{'MB':>10}")
    for name, row in rows.items():
        if "error" in row:
            print(f"{name:24}{row['error']:>12}")
            continue
        cells = [f"{row['forward_ms']:12.3f}{row['train_ms']:12.3f}"]
        for key in ("forward_ratio", "train_ratio"):
            cells.append(f"{row[key]:8.2f}" if key in row else " " * 8)
        for key in ("forward_bytes", "train_bytes"):
            cells.append(f"{row[key] / 1e6:10.1f}" if key in row else " " * 10)
        print(f"{name:24}{''.join(cells)}")


def _parse_size(text: str) -> MapSize:
    """Parses a map size: 56, or 154x126 for height and width."""
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2:
        raise ValueError
    return sides[0], sides[-1]


if __name__ == "__main__":
    sys.exit(main())
