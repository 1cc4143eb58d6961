"""Benchmark complete models: throughput, latency and peak memory, alone or against another implementation.

A model and its baseline are measured in one run and in alternation, so that other load on the machine affects both
alike. A ratio is the median over the turns of the other implementation's time divided by attnzoo's: CPU time on a CPU,
wall-clock time on a GPU. Before anything is timed, both must compute the same logits from the same weights.
"""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path
from typing import Any

from attnzoo.names import unknown_name
from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.tools.benchmarking.names import BASELINE_NAMES, DTYPE_NAMES


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names, or patterns such as 'nat_*'")
    parser.add_argument(
        "--against",
        choices=BASELINE_NAMES,
        help="timm: timm's model of the same name; plain: attention in plain PyTorch; flex: FlexAttention in place of "
        "neighborhood attention (default: none)",
    )
    parser.add_argument("--batch-size", type=int, help="images per batch (default: 8 on a CPU, 64 on a GPU)")
    parser.add_argument("--img-size", type=int, nargs="+", help="height and width in pixels (default: the model's)")
    parser.add_argument("--dtype", choices=DTYPE_NAMES, help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if available, else cpu")
    parser.add_argument(
        "--train", action="store_true", help="measure a training step: forward, cross entropy, backward, SGD"
    )
    parser.add_argument("--compile", action="store_true", help="compile all models with torch.compile")
    parser.add_argument(
        "--channels-last", action="store_true", help="use the channels-last memory format for weights and images"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on a CPU (default: 1)")
    parser.add_argument("--repeats", type=int, default=10, help="timed turns per model (default: 10)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code: 1 if a model could not be measured."""
    args = parse_args(argv)
    import torch
    from tqdm import tqdm

    from attnzoo.tools.benchmarking.models import ModelSettings, measure_model
    from attnzoo.tools.benchmarking.precision import DTYPES, default_device, default_dtype
    from attnzoo.zoo.analysis.summary import library_versions
    from attnzoo.zoo.analysis.timing import device_name
    from attnzoo.zoo.files import write_json

    started = False
    with user_errors(over=lambda: started) as outcome:
        for key in ("batch_size", "threads", "repeats"):
            value = getattr(args, key)
            if value is not None and value < 1:
                raise UserError(f"--{key.replace('_', '-')} must be >= 1, got {value}.")
        names = find_models(args.models)
        sizes = {name: image_size(name, args.img_size) for name in names}
        device = default_device() if args.device is None else torch.device(args.device)
        args.dtype = args.dtype or default_dtype(device)
        args.batch_size = args.batch_size or (8 if device.type == "cpu" else 64)
        torch.set_num_threads(args.threads)
        settings = ModelSettings(
            args.batch_size,
            DTYPES[args.dtype],
            device,
            args.train,
            compile_modes=(args.compile,),
            channels_last=args.channels_last,
            repeats=args.repeats,
        )
        started = True
        recorded = ("dtype", "batch_size", "threads", "repeats", "train", "compile", "channels_last", "against")
        report: dict[str, Any] = {
            "device": device_name(device),
            "libraries": library_versions(),
            **{key: getattr(args, key) for key in recorded},
            "models": {},
        }
        with tqdm(total=len(names) * (args.repeats + 1), unit="turn", disable=None) as bar:
            for name in names:
                bar.set_description(name)
                baselines = [args.against] if args.against else []
                rows = measure_model(name, sizes[name], settings, baselines, on_turn=bar.update)
                report["models"][name] = {"img_size": sizes[name], "rows": rows}
        print_table(report)
        if args.out:
            write_json(args.out, report)
        if any("error" in row for model in report["models"].values() for row in model["rows"].values()):
            outcome.code = 1
    return outcome.code


def find_models(patterns: list[str]) -> list[str]:
    """Finds the models that names, tagged names and patterns match, each once and in order.

    Raises:
        ValueError: If there is no such model.
    """
    from attnzoo import get_pretrained_cfg, list_models

    found = []
    for pattern in patterns:
        names = list_models(pattern) if set("*?[") & set(pattern) else [pattern]
        if not names:
            raise ValueError(unknown_name("model pattern", pattern, list_models()))
        for name in names:
            get_pretrained_cfg(name)  # raises an error for an unknown name
            found.append(name)
    return list(dict.fromkeys(found))


def image_size(name: str, size: list[int] | None) -> list[int]:
    """Returns height and width in pixels: the given size, or the size that the model was trained with.

    Raises:
        ValueError: If the size has more than two numbers or one that is not positive.
    """
    from attnzoo import get_pretrained_cfg

    if size is None:
        return list(get_pretrained_cfg(name).input_size[1:])
    if len(size) > 2 or min(size) < 1:
        raise ValueError(f"--img-size takes one or two positive numbers, height and width, got {size}.")
    return [size[0], size[-1]]


def print_table(report: dict[str, Any]) -> None:
    """Prints a report, one line per model and implementation."""
    mode = "training step" if report["train"] else "inference"
    print(
        f"{report['device']}, torch {report['libraries']['torch']}, {report['dtype']}, batch {report['batch_size']}, "
        f"{mode}, median of {report['repeats']}, threads {report['threads']}"
    )
    width = max(len(name) for name in report["models"])
    print(f"{'':{width}}  {'':8}{'size':>10}{'M params':>10}{'ms':>11}{'images/s':>11}{'MB':>9}{'ratio':>8}")
    for name, model in report["models"].items():
        for label, row in model["rows"].items():
            cells = f"{name:{width}}  {label:8}{'x'.join(map(str, model['img_size'])):>10}"
            if "error" in row:
                print(f"{cells}  {row['error']}")
                continue
            ratio = f"{row['ratio']:8.2f}" if "ratio" in row else ""
            print(
                f"{cells}{row['params']:10.2f}{row['latency_ms']:11.2f}{row['throughput']:11.1f}"
                f"{row['peak_bytes'] / 1e6:9.1f}{ratio}"
            )


if __name__ == "__main__":
    sys.exit(main())
