"""Measure neighborhood attention against other ways to compute it: time and memory, on a CPU or a GPU.

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

from attnzoo.kernels import neighborhood_attention_2d
from attnzoo.tools.arguments import user_errors
from attnzoo.tools.attention_baselines import Attention, DenseAttention, FlexAttention, UnfoldAttention
from attnzoo.tools.measuring import DTYPES, TOLERANCE, device_name, medians, peak_memory
from attnzoo.zoo.reports.files import write_json

_STAGE_HEADS = {56: 2, 28: 4, 14: 8, 7: 16}
_GRADIENTS = ("query", "key", "value", "rpb")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default=None, choices=DTYPES, help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--batch-size", type=int, default=None, help="images (default: 8 on a CPU, 64 on a GPU)")
    parser.add_argument("--kernel-size", type=int, default=7)
    parser.add_argument("--dim", type=int, default=32, help="channels of a head")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=list(_STAGE_HEADS),
        help="heights and widths of the maps (default: those of NAT's four stages, with their 2, 4, 8 and 16 heads)",
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
        report: dict[str, Any] = {
            "device": device_name(device),
            "torch": str(torch.__version__),
            "dtype": str(dtype).removeprefix("torch."),
            "batch_size": batch_size,
            "kernel_size": args.kernel_size,
            "dim": args.dim,
            "threads": args.threads,
            "repeats": args.repeats,
            "unit": {"time": "process-CPU ms" if device.type == "cpu" else "ms", "memory": "bytes beyond operands"},
            "maps": [],
        }
        print(f"{report['device']}, torch {report['torch']}, {report['dtype']}, batch {batch_size}, ", end="")
        print(f"kernel {args.kernel_size}, dim {args.dim}, {args.threads} threads, median of {args.repeats}")
        for size in args.sizes:
            heads = _STAGE_HEADS.get(size, 2)
            shape = (batch_size, size, size, heads, args.dim)
            ways = ways_to_compute(args.kernel_size, device)
            if args.only:
                ways = {name: way for name, way in ways.items() if name in args.only}
            rows = measure(ways, shape, args.kernel_size, dtype, device, args.repeats)
            report["maps"].append({"size": size, "heads": heads, "ways": rows})
            print_table(size, heads, rows)
            if any(row.get("error") == "disagrees" for row in rows.values()):
                print("error: some ways disagree; their times mean nothing", file=sys.stderr)
                outcome.code = 1
        if args.out:
            write_json(args.out, report)
    return outcome.code


def ways_to_compute(kernel_size: int, device: torch.device) -> dict[str, tuple[Attention, bool]]:
    """The ways to compute attention, by name, and whether each gets the bias."""

    def ours(backend: str) -> Attention:
        return lambda query, key, value, rpb: neighborhood_attention_2d(
            query, key, value, kernel_size, rpb=rpb, backend=backend
        )

    backends = ["torch"] if device.type == "cpu" else ["triton", "torch"]
    ways: dict[str, tuple[Attention, bool]] = {}
    for backend in backends:
        ways[f"attnzoo {backend}"] = ours(backend), True
        ways[f"attnzoo {backend}, no bias"] = ours(backend), False
    ways["unfold + einsum"] = UnfoldAttention(kernel_size), True
    ways["dense SDPA, mask"] = DenseAttention(kernel_size), True
    if device.type == "cuda":
        ways["FlexAttention"] = FlexAttention(kernel_size), True
    return ways


def measure(
    ways: dict[str, tuple[Attention, bool]],
    shape: tuple[int, int, int, int, int],
    kernel_size: int,
    dtype: torch.dtype,
    device: torch.device,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """Measures ways to compute attention on a map, and a plain copy of as many tensors as attention touches.

    Args:
        ways: from `ways_to_compute`.
        shape: of query, key and value: (B, H, W, heads, dim).
        kernel_size: as the ways were made for.
        dtype: of the operands; the bias is float32 beside half-precision operands.
        device: where to run.
        repeats: turns that every way takes.

    Returns:
        For each way `forward_ms`, `train_ms` (forward and backward), `forward_bytes` and `train_bytes`; or `error`.
    """
    noise = torch.Generator().manual_seed(0)
    operands = {name: torch.randn(shape, generator=noise).to(device, dtype) for name in ("query", "key", "value")}
    offsets = 2 * kernel_size - 1
    operands["rpb"] = torch.randn(shape[3], offsets, offsets, generator=noise).to(
        device, torch.float64 if dtype == torch.float64 else torch.float32
    )
    upstream = torch.randn(shape, generator=noise).to(device, dtype)
    rows: dict[str, dict[str, Any]] = {}
    forwards: dict[str, Callable[[], Any]] = {}
    trainings: dict[str, Callable[[], Any]] = {}
    expected: dict[bool, list[torch.Tensor]] = {}
    for name, (way, has_bias) in ways.items():
        forward, training = _runs(way, operands, upstream, has_bias)
        try:
            actual = training()
            if has_bias not in expected:
                expected[has_bias] = _exactly(operands, upstream, has_bias, kernel_size)
            if not _agree(actual, expected[has_bias], TOLERANCE[dtype]):
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
    copies = {phase: _copy(upstream, count) for phase, count in tensors.items()}
    for phase, runs in (("forward", forwards), ("train", trainings)):
        for name, milliseconds in medians({**runs, "plain copy": copies[phase]}, device, repeats).items():
            rows[name][f"{phase}_ms"] = milliseconds
    return rows


def print_table(size: int, heads: int, rows: dict[str, dict[str, Any]]) -> None:
    """Prints a map's measurements; ratios are against the first row."""
    print(f"\n{size}x{size}, {heads} heads")
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
    way: Attention, operands: dict[str, torch.Tensor], upstream: torch.Tensor, has_bias: bool
) -> tuple[Callable[[], torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """A forward pass without gradients, and a forward and backward pass that returns output and gradients."""
    inputs = [operands[name].detach().requires_grad_() for name in _GRADIENTS[: 4 if has_bias else 3]]
    query, key, value = inputs[:3]
    rpb = inputs[3] if has_bias else None

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return way(query, key, value, rpb)

    def training() -> list[torch.Tensor]:
        out = way(query, key, value, rpb)
        return [out.detach(), *torch.autograd.grad(out, inputs, upstream)]

    return forward, training


def _exactly(
    operands: dict[str, torch.Tensor], upstream: torch.Tensor, has_bias: bool, kernel_size: int
) -> list[torch.Tensor]:
    """Output and gradients in float64, by the implementation that its tests hold against the definition."""
    names = _GRADIENTS[: 4 if has_bias else 3]
    inputs = [operands[name].detach().double().requires_grad_() for name in names]
    out = neighborhood_attention_2d(
        inputs[0], inputs[1], inputs[2], kernel_size, rpb=inputs[3] if has_bias else None, backend="torch"
    )
    return [out.detach(), *torch.autograd.grad(out, inputs, upstream.double())]


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


if __name__ == "__main__":
    sys.exit(main())
