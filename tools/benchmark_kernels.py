"""Measure attention kernels against other ways to compute the same: time and memory, on a CPU or a GPU.

Everything is measured in one run, taking turns, so that what else the machine does falls on all alike. Times are
medians of process-CPU time on a CPU and of CUDA events on a GPU. Memory is the largest sum of live allocations beyond
operands, as torch's allocators report it to the profiler (CPU) or count it (GPU).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attnzoo.tools.arguments import user_errors
from attnzoo.tools.benchmarking.operations import (
    BIFORMER_STAGES,
    HALO_STAGES,
    NAT_STAGES,
    Map,
    Problem,
    Way,
    halo_problem,
    neighborhood_problem,
    routing_problem,
    window_problem,
)
from attnzoo.zoo.analysis.timing import DTYPES, TOLERANCE, device_name, medians, peak_memory
from attnzoo.zoo.files import write_json

_STAGES: dict[str, list[Map]] = {
    "neighborhood": list(NAT_STAGES),
    "routing": list(BIFORMER_STAGES),
    "window": list(NAT_STAGES),
    "halo": list(HALO_STAGES),
}
_PROBLEMS: dict[str, Callable[..., Problem]] = {
    "neighborhood": neighborhood_problem,
    "routing": routing_problem,
    "window": window_problem,
    "halo": halo_problem,
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--operation", default="neighborhood", choices=list(_STAGES), help="what to compute (default: neighborhood)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default=None, choices=DTYPES, help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--batch-size", type=int, default=None, help="images (default: 8 on a CPU, 64 on a GPU)")
    parser.add_argument("--kernel-size", type=int, default=7, help="of neighborhood attention")
    parser.add_argument("--num-regions", type=int, default=7, help="of routed attention, along each axis")
    parser.add_argument("--topk", type=int, default=None, help="of routed attention (default: BiFormer's; 4 elsewhere)")
    parser.add_argument("--window-size", type=int, default=7, help="of attention in windows")
    parser.add_argument("--block-size", type=int, default=8, help="of halo attention")
    parser.add_argument("--halo-size", type=int, default=2, help="of halo attention")
    parser.add_argument("--dim", type=int, default=32, help="channels of a head")
    parser.add_argument(
        "--sizes",
        type=_size,
        nargs="+",
        default=None,
        metavar="SIZE",
        help="maps, 56 or 154x126 (default: those of NAT's four stages, or of the three of BiFormer-S that route)",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--repeats", type=int, default=7, help="turns that every way takes")
    parser.add_argument("--only", nargs="+", default=None, metavar="WAY", help="measure these ways alone")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code: 1 where ways to compute the same thing disagree."""
    args = parse_args(argv)
    with user_errors() as outcome:
        device = torch.device(args.device)
        dtype = DTYPES[args.dtype or ("float32" if device.type == "cpu" else "bfloat16")]
        batch_size = args.batch_size or (8 if device.type == "cpu" else 64)
        torch.set_num_threads(args.threads)
        own: dict[str, Any] = {
            "neighborhood": {"kernel_size": args.kernel_size},
            "routing": {"num_regions": args.num_regions, "topk": args.topk},
            "window": {"window_size": args.window_size},
            "halo": {"block_size": args.block_size, "halo_size": args.halo_size},
        }[args.operation]
        report: dict[str, Any] = {
            "operation": args.operation,
            "device": device_name(device),
            "torch": str(torch.__version__),
            "dtype": str(dtype).removeprefix("torch."),
            "batch_size": batch_size,
            **own,
            "dim": args.dim,
            "threads": args.threads,
            "repeats": args.repeats,
            "unit": {"time": "process-CPU ms" if device.type == "cpu" else "ms", "memory": "bytes beyond operands"},
            "maps": [],
        }
        print(f"{report['device']}, torch {report['torch']}, {report['dtype']}, batch {batch_size}, ", end="")
        print(f"{args.operation}, dim {args.dim}, {args.threads} threads, median of {args.repeats}")
        make = _PROBLEMS[args.operation]
        for size in args.sizes or _STAGES[args.operation]:
            problem = make(size, batch_size, args.dim, dtype, device, **own)
            rows = measure(problem, dtype, device, args.repeats, args.only)
            report["maps"].append({**problem.settings, "ways": rows})
            print_table(", ".join(f"{name} {value}" for name, value in problem.settings.items()), rows)
            if any(row.get("error") == "disagrees" for row in rows.values()):
                print("error: some ways disagree; their times mean nothing", file=sys.stderr)
                outcome.code = 1
        if args.out:
            write_json(args.out, report)
    return outcome.code


def measure(
    problem: Problem, dtype: torch.dtype, device: torch.device, repeats: int, only: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Measures ways to compute attention on a map, and a plain copy of as many tensors as attention touches.

    Args:
        problem: what to compute, and how.
        dtype: of its operands.
        device: where they lie.
        repeats: turns that every way takes.
        only: names of the ways to measure; None for all.

    Returns:
        For each way `forward_ms`, `train_ms` (forward and backward), `forward_bytes` and `train_bytes`; or `error`.
    """
    rows: dict[str, dict[str, Any]] = {}
    forwards: dict[str, Callable[[], Any]] = {}
    trainings: dict[str, Callable[[], Any]] = {}
    expected: dict[tuple[str, ...], list[torch.Tensor]] = {}
    for name, way in problem.ways.items():
        if only and name not in only:
            continue
        forward, training = _runs(way, problem.operands, problem.upstream)
        try:
            actual = training()
            if way.operands not in expected:
                # By the implementation that its tests hold against the definition.
                exact = {one: operand.double() for one, operand in problem.operands.items()}
                expected[way.operands] = _runs(Way(problem.exact, way.operands), exact, problem.upstream.double())[1]()
            if not _agree(actual, expected[way.operands], TOLERANCE[dtype]):
                rows[name] = {"error": "disagrees"}
                continue
            del actual
            rows[name] = {
                "forward_bytes": peak_memory(forward, device),
                "train_bytes": peak_memory(training, device),
            }
        except torch.OutOfMemoryError:
            rows[name] = {"error": "out of memory"}
            continue
        forwards[name], trainings[name] = forward, training
    rows["plain copy"] = {}
    tensors = {"forward": 4, "train": 8}  # query, key, value, out; with the gradients of all four
    copies = {phase: _copy(problem.upstream, count) for phase, count in tensors.items()}
    for phase, runs in (("forward", forwards), ("train", trainings)):
        for name, milliseconds in medians({**runs, "plain copy": copies[phase]}, device, repeats).items():
            rows[name][f"{phase}_ms"] = milliseconds
    return rows


def print_table(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Prints a map's measurements; ratios are against the first row."""
    print(f"\n{title}")
    print(f"{'':24}{'forward':>12}{'+backward':>12}{'ratio':>8}{'ratio':>8}{'MB':>10}{'MB':>10}")
    first = next(iter(rows.values()))
    for name, row in rows.items():
        if "error" in row:
            print(f"{name:24}{row['error']:>12}")
            continue
        cells = [f"{row['forward_ms']:12.3f}{row['train_ms']:12.3f}"]
        for phase in ("forward_ms", "train_ms"):
            cells.append(f"{row[phase] / first[phase]:8.2f}" if phase in first else " " * 8)
        for phase in ("forward_bytes", "train_bytes"):
            cells.append(f"{row[phase] / 1e6:10.1f}" if phase in row else " " * 10)
        print(f"{name:24}{''.join(cells)}")


def _runs(
    way: Way, operands: dict[str, torch.Tensor], upstream: torch.Tensor
) -> tuple[Callable[[], torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """A forward pass without gradients, and a forward and backward pass that returns output and gradients."""
    inputs = [operands[name].detach().requires_grad_() for name in way.operands]

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return way.compute(*inputs)

    def training() -> list[torch.Tensor]:
        out = way.compute(*inputs)
        return [out.detach(), *torch.autograd.grad(out, inputs, upstream)]

    return forward, training


def _agree(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> bool:
    return all(
        ((one.double() - other).norm() <= tolerance * other.norm()).item()
        for one, other in zip(actual, expected, strict=True)
    )


def _copy(like: torch.Tensor, count: int) -> Callable[[], None]:
    """A function that copies `count` tensors to memory that exists already."""
    sources = [like.clone() for _ in range(count)]
    targets = [torch.zeros_like(like) for _ in range(count)]

    def copy() -> None:
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)

    return copy


def _size(text: str) -> Map:
    """Reads a map's size: 56, or 154x126 for a height and a width."""
    sides = [int(one) for one in text.split("x")]
    if len(sides) > 2:
        raise ValueError
    return sides[0], sides[-1]


if __name__ == "__main__":
    sys.exit(main())
