"""Check a machine with an NVIDIA GPU: run tests/gpu, then benchmark kernels and complete models.

Runs from a bare checkout, without installing attnzoo; it needs torch, triton and timm, and pytest for the tests. The
report is written after every measurement, so that an interrupted run keeps what it measured. `gpu_report.py` converts
the report to Markdown tables.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_START = time.monotonic()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="gpu_check",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").partition("\n\n")[2]
        + " Exit codes: 0 passed; 1 a part failed, crashed or timed out; 2 wrong arguments, or no GPU.",
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="report (default: gpu_check.json)")
    parser.add_argument("--budget", type=float, default=360, metavar="SECONDS", help="time for all (default: 360)")
    parser.add_argument("--only", action="append", metavar="PART", help="run only this part; may be repeated")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu runs a reduced check")
    return parser.parse_args(argv)


def make_importable() -> None:
    """Makes this checkout importable as `attnzoo`, also in the processes that are started from here."""
    spec = importlib.util.find_spec("attnzoo")
    if spec is not None and spec.origin and Path(spec.origin).resolve().parent == ROOT:
        return
    folder = tempfile.mkdtemp(prefix="attnzoo_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (Path(folder) / "attnzoo").symlink_to(ROOT, target_is_directory=True)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    make_importable()
    import attnzoo.tools.openmp  # noqa: F401  # before torch is imported
    from attnzoo.tools.arguments import user_errors

    started = False
    with user_errors(over=lambda: started) as outcome:
        import torch

        from attnzoo.tools.benchmarking import gpu_parts, supervisor

        parts = gpu_parts.parts(args.device)
        selected = _select_parts(args.only, list(parts))
        if args.budget <= 0:
            raise ValueError(f"--budget must be positive, got {args.budget:g}.")
        if args.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"There is no CUDA device (torch {torch.__version__}). Run this on a machine with an NVIDIA GPU, or "
                "pass --device cpu for a reduced check."
            )
        started = True
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        report = supervisor.run_parts(
            {name: parts[name] for name in selected},
            args.device,
            args.out,
            args.budget - (time.monotonic() - _START),
            gpu_parts.PRELOADED,
            print_part,
        )
        print(f"{args.out}: {'passed' if report['passed'] else 'not passed'}, {report['seconds']:.0f} s")
        outcome.code = 0 if report["passed"] else 1
    return outcome.code


def print_part(name: str, part: dict[str, Any]) -> None:
    """Prints the status of a part."""
    results = part["results"]
    detail = results.get("skipped_because") or ""
    if name == "tests" and "collected" in results:
        detail = ", ".join(f"{results[key]} {key}" for key in ("collected", "passed", "failed", "skipped"))
    print(f"{name:24}{part['status']:12}{part['seconds']:7.1f} s  {detail}".rstrip(), flush=True)


def _select_parts(only: list[str] | None, names: list[str]) -> list[str]:
    """Selects the parts to run, in order.

    Raises:
        ValueError: If there is no such part.
    """
    from attnzoo.names import unknown_name

    for name in only or []:
        if name not in names:
            raise ValueError(unknown_name("part", name, names))
    return [name for name in names if not only or name in only]


if __name__ == "__main__":
    sys.exit(main())
