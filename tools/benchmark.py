"""Measure whole models: throughput, latency and peak memory, alone or paired with another way to compute the same.

All of a model's rows are measured in one run, taking turns, so that what else the machine does falls on all alike.
Ratios are medians over the turns of how much longer the other one took: of process-CPU time on a CPU, of time by
events on a GPU. Before anything is timed, both must give the same logits from the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from attnzoo import create_model, get_pretrained_cfg, list_models
from attnzoo.names import unknown_name
from attnzoo.tools.arguments import user_errors
from attnzoo.tools.benchmarking.model_baselines import AGAINST, randomize_statistics
from attnzoo.zoo.analysis.summary import count_parameters, library_versions
from attnzoo.zoo.analysis.timing import DTYPES, TOLERANCE, Elapsed, device_name, peak_memory, take_turns
from attnzoo.zoo.files import write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], epilog=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names, or patterns such as 'nat_*'")
    parser.add_argument(
        "--against",
        choices=AGAINST,
        help="timm: its model of the same name; plain: the attention written the plainest way in PyTorch; "
        "flex: FlexAttention in place of neighborhood attention (default: nothing)",
    )
    parser.add_argument("--batch-size", type=int, help="images (default: 8 on a CPU, 64 on a GPU)")
    parser.add_argument("--img-size", type=int, nargs="+", help="height and width in pixels (default: each model's)")
    parser.add_argument("--dtype", choices=DTYPES, help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--train", action="store_true", help="forward, cross entropy, backward and an SGD step")
    parser.add_argument("--compile", action="store_true", help="through torch.compile, all alike")
    parser.add_argument("--channels-last", action="store_true", help="weights and images in that memory format")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--repeats", type=int, default=10, help="turns that every model takes")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code: 1 where a model could not be measured."""
    args = parse_args(argv)
    started = False
    with user_errors(over=lambda: started) as outcome:
        names = find_models(args.models)
        device = torch.device(args.device)
        dtype = DTYPES[args.dtype or ("float32" if device.type == "cpu" else "bfloat16")]
        sizes = {name: image_size(name, args.img_size) for name in names}
        for key, least in (("batch_size", 1), ("threads", 1), ("repeats", 1)):
            given = getattr(args, key)
            if given is not None and given < least:
                raise ValueError(f"--{key.replace('_', '-')} must be at least {least}, but is {given}.")
        args.batch_size = args.batch_size or (8 if device.type == "cpu" else 64)
        torch.set_num_threads(args.threads)
        started = True
        report: dict[str, Any] = {
            "device": device_name(device),
            "libraries": library_versions(),
            "dtype": str(dtype).removeprefix("torch."),
            **{
                key: getattr(args, key)
                for key in ("batch_size", "threads", "repeats", "train", "compile", "channels_last", "against")
            },
            "models": {},
        }
        with tqdm(total=len(names) * (args.repeats + 1), unit="turn", disable=None) as bar:
            for name in names:
                bar.set_description(name)
                rows = measure(name, sizes[name], args, dtype, device, bar.update)
                report["models"][name] = {"img_size": sizes[name], "rows": rows}
        print_table(report)
        if args.out:
            write_json(args.out, report)
        if any("error" in row for model in report["models"].values() for row in model["rows"].values()):
            outcome.code = 1
    return outcome.code


def find_models(given: list[str]) -> list[str]:
    """Finds the models that names, tags and patterns mean, each once, in their order.

    Raises:
        ValueError: there is no such model.
    """
    found = []
    for one in given:
        names = list_models(one) if set("*?[") & set(one) else [one]
        if not names:
            raise ValueError(unknown_name("model pattern", one, list_models()))
        for name in names:
            get_pretrained_cfg(name)
            found.append(name)
    return list(dict.fromkeys(found))


def image_size(name: str, given: list[int] | None) -> list[int]:
    """Height and width in pixels: those given, or those that the model was trained with.

    Raises:
        ValueError: more than two numbers are given, or one is not positive.
    """
    if given is None:
        return list(get_pretrained_cfg(name).input_size[1:])
    if len(given) > 2 or min(given) < 1:
        raise ValueError(f"--img-size takes one or two positive numbers, height and width, but got {given}.")
    return [given[0], given[-1]]


def measure(
    name: str,
    size: list[int],
    args: argparse.Namespace,
    dtype: torch.dtype,
    device: torch.device,
    on_turn: Callable[[], Any],
) -> dict[str, dict[str, Any]]:
    """Measures one model and what it is compared with.

    Returns:
        For "attnzoo" and what `args.against` names: `params` (millions), `latency_ms` (wall clock of a batch),
        `throughput` (images a second), `busy_ms`, `peak_bytes` beyond weights and images, and for the other one
        `ratio` (how much longer it took than ours); or `error`.
    """
    torch.manual_seed(0)
    images = torch.randn(args.batch_size, 3, *size, dtype=dtype, device=device)
    rows: dict[str, dict[str, Any]] = {}
    try:
        models = {"attnzoo": create_model(name).eval()}
        randomize_statistics(models["attnzoo"])
        if args.against:
            models[args.against] = AGAINST[args.against](name, models["attnzoo"])
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        for key, model in models.items():
            models[key] = model.to(device, dtype)
            if args.channels_last:
                models[key].to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        with torch.no_grad():
            logits = [model(images) for model in models.values()]
        error = max(((one - logits[0]).norm() / logits[0].norm()).item() for one in logits)
        if not error <= TOLERANCE[dtype]:
            raise ValueError(f"The two give other logits (relative difference {error:.2g}); times would mean nothing.")
        runs = {key: _run(model, images, args.train, args.compile) for key, model in models.items()}
        for key, run in runs.items():
            run()
            rows[key] = {"params": count_parameters(models[key])[0] / 1e6, "peak_bytes": peak_memory(run, device)}
        times = take_turns(runs, device, args.repeats, on_turn)
    except (ValueError, RuntimeError) as error:  # torch's OutOfMemoryError is one
        return {"attnzoo": {"error": str(error).partition("\n")[0]}}
    for key, row in rows.items():
        row |= _summary(times[key], times["attnzoo"], args.batch_size)
    return rows


def print_table(report: dict[str, Any]) -> None:
    """Prints a report, one line a model and way."""
    what = "training step" if report["train"] else "inference"
    print(
        f"{report['device']}, torch {report['libraries']['torch']}, {report['dtype']}, batch {report['batch_size']}, "
        f"{what}, median of {report['repeats']}, threads {report['threads']}"
    )
    wide = max(len(name) for name in report["models"])
    print(f"{'':{wide}}  {'way':8}{'size':>10}{'M params':>10}{'ms':>11}{'images/s':>11}{'MB':>9}{'ratio':>8}")
    for name, model in report["models"].items():
        for way, row in model["rows"].items():
            cells = f"{name:{wide}}  {way:8}{'x'.join(map(str, model['img_size'])):>10}"
            if "error" in row:
                print(f"{cells}  {row['error']}")
                continue
            ratio = f"{row['ratio']:8.2f}" if "ratio" in row else ""
            print(
                f"{cells}{row['params']:10.2f}{row['latency_ms']:11.2f}{row['throughput']:11.1f}"
                f"{row['peak_bytes'] / 1e6:9.1f}{ratio}"
            )


def _run(model: nn.Module, images: torch.Tensor, train: bool, compiled: bool) -> Callable[[], Any]:
    """What is timed: a pass without gradients in evaluation mode, or a training step."""
    forward: Any = torch.compile(model) if compiled else model
    if not train:
        return torch.inference_mode()(lambda: forward(images))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    labels = torch.arange(len(images), device=images.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(forward(images).float(), labels).backward()
        optimizer.step()

    return step


def _summary(times: list[Elapsed], ours: list[Elapsed], batch_size: int) -> dict[str, float]:
    latency = statistics.median(one.wall for one in times)
    row = {
        "latency_ms": latency,
        "throughput": batch_size * 1e3 / latency,
        "busy_ms": statistics.median(one.busy for one in times),
    }
    if times is not ours:
        row["ratio"] = statistics.median(one.busy / own.busy for one, own in zip(times, ours, strict=True))
    return row


if __name__ == "__main__":
    sys.exit(main())
