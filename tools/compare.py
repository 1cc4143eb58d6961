"""Compare token mixers in one body: train each under one recipe and one seed, and set what comes out side by side.

What is finished is not trained again, and what was stopped goes on, as long as the recipe is the same. A mixer that
fails is reported, and the others go on. Throughput and memory are measured after all trainings, by turns, so that what
else the machine does falls on all alike. Written into the work dir: comparison.md, comparison.json, comparison.png, and
a folder of each mixer's training.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import gc
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn
from tqdm import tqdm

from attnzoo.backbones.metaformer import MIXERS
from attnzoo.backbones.registry import model_arguments
from attnzoo.names import unknown_name
from attnzoo.tools.arguments import UserError, add_config_arguments, load_from_arguments, user_errors
from attnzoo.zoo.analysis.comparison import Candidate
from attnzoo.zoo.analysis.summary import count_macs, count_parameters, library_versions
from attnzoo.zoo.analysis.timing import device_name, peak_memory, time_in_turns
from attnzoo.zoo.config import check_config, find_config
from attnzoo.zoo.config.consistency import BuiltCheckHook
from attnzoo.zoo.config.loading import config_name
from attnzoo.zoo.config.parts import backbone_of
from attnzoo.zoo.files import write_bytes, write_json
from attnzoo.zoo.plots.comparison import comparison_table, draw_comparison
from attnzoo.zoo.plots.curves import draw_learning_curve
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted, build_runner

OUTCOME = "outcome.json"
"""File in a mixer's folder: what its training gave, and the recipe that it is of."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="compare",
        description=first,
        epilog=rest + " Exit codes: 0 done; 1 a mixer failed; 2 a mistake in the command or config; 75 or 130 stopped "
        "by a signal: the same command goes on.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--mixers",
        nargs="+",
        default=list(MIXERS),
        metavar="MIXER",
        help=f"of {', '.join(MIXERS)}; several with commas between them are one for each stage (default: all)",
    )
    parser.add_argument(
        "--seed", type=int, help="of weights, data order, augmentation and drop path (default: config's)"
    )
    parser.add_argument("--retrain", action="store_true", help="train also what is finished already")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time, to measure (default: 64)")
    parser.add_argument(
        "--repeats", type=int, default=10, help="turns that every model takes, to measure (default: 10)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch, to measure on a CPU (default: 1)")
    return parser.parse_args(argv)


def recipe_from(args: argparse.Namespace) -> Config:
    """Loads the config that all mixers are trained by, and checks it.

    Raises:
        ConfigError: there is no such config, it is not right, or an option does not fit.
        ValueError: a mixer or a number on the command line is wrong, or the config's body takes no mixer.
    """
    for key, least in (("batch_size", 1), ("repeats", 1), ("threads", 1)):
        if getattr(args, key) < least:
            raise ValueError(f"--{key.replace('_', '-')} must be at least {least}, but is {getattr(args, key)}.")
    if args.launcher != "none":
        raise UserError("A comparison runs in one process: --launcher must be none.")
    cfg = load_from_arguments(args)  # imports what `custom_imports` names, which may register mixers
    for name in args.mixers:
        for part in name.split(","):
            if part not in MIXERS:
                raise ValueError(unknown_name("mixer", part, MIXERS))
    if args.seed is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": args.seed}
    backbone = backbone_of(cfg.to_dict())
    known = model_arguments(backbone[1]["type"]) if backbone is not None else None
    if backbone is None or backbone[0] != "model.backbone" or known is None or "mixer" not in known:
        raise UserError(f"{args.config}: model.backbone must be a body that takes a mixer, such as metaformer_s12.")
    if not cfg.get("val_dataloader") or not cfg.get("val_evaluator"):
        raise UserError(f"{args.config} has no val_dataloader or no val_evaluator: there is nothing to compare by.")
    check_config(cfg)
    return cfg


def with_mixer(recipe: Config, name: str) -> Config:
    """Gives one mixer's config: the recipe, the mixer, and a work dir of its own."""
    cfg = copy.deepcopy(recipe)
    stages = name.split(",")
    cfg.model.backbone.mixer = stages[0] if len(stages) == 1 else stages
    cfg.work_dir = str(Path(recipe.work_dir) / name.replace(",", "+"))
    return cfg


def fingerprint(cfg: Config) -> str:
    """Gives a checksum of everything that a training depends on in its config."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in ("work_dir", "resume", "launcher")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def train(cfg: Config, again: bool) -> dict[str, Any]:
    """Trains, or reads what an earlier training of the same recipe gave.

    Args:
        cfg: the mixer's config; its `resume` is set.
        again: train even what is finished.

    Returns:
        What `OUTCOME` holds: `recipe`, and after the training `metrics`, `best` and `seconds`.

    Raises:
        Preempted: a signal asked to stop.
    """
    path = Path(cfg.work_dir) / OUTCOME
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not again else {}
    same = known.get("recipe") == fingerprint(cfg)
    if same and "metrics" in known:
        return known
    cfg.resume = same  # checkpoints of another recipe are set aside
    outcome = {"recipe": fingerprint(cfg), "seconds": known.get("seconds", 0.0) if same else 0.0}
    write_json(path, outcome)
    begin = time.perf_counter()
    runner = build_runner(cfg)
    runner.register_hook(BuiltCheckHook())
    try:
        runner.train()
    finally:
        outcome["seconds"] = round(outcome["seconds"] + time.perf_counter() - begin, 1)
        write_json(path, outcome)
    results = runner.results()
    outcome |= {"metrics": results["metrics"], "best": results["best"]}
    write_json(path, outcome)
    draw_learning_curve(cfg.work_dir)
    return outcome


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that are evaluated, or else of those that the body is made for."""
    size = cfg.val_dataloader.dataset.get("transform", {}).get("size") or cfg.model.backbone.get("img_size", 224)
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def build_body(cfg: Config) -> nn.Module:
    """Builds the body alone, with new weights."""
    return MODELS.build({**cfg.model.backbone.to_dict(), "pretrained": False, "checkpoint_path": None})


def training_step(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Gives a function that makes a step of training, without an optimizer's update."""
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)

    def step() -> None:
        nn.functional.cross_entropy(model(images), labels).backward()
        model.zero_grad(set_to_none=True)

    return step


def measure(cfgs: dict[str, Config], rows: dict[str, Candidate], args: argparse.Namespace) -> None:
    """Counts and times the bodies, by turns; writes into their rows what it finds.

    Args:
        cfgs: of the mixers to measure.
        rows: what is known of each.
        args: the command line.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(args.threads)
    runs: dict[str, Callable[[], Any]] = {}
    for name, cfg in cfgs.items():
        row, size = rows[name], image_size(cfg)
        try:
            with torch.device("meta"):
                row.macs = count_macs(build_body(cfg), size, cfg.model.backbone.get("in_chans", 3))
            torch.manual_seed(0)
            model = build_body(cfg).to(device)
            row.parameters = count_parameters(model)[0]
            images = torch.randn(args.batch_size, cfg.model.backbone.get("in_chans", 3), *size, device=device)
            both: dict[str, Callable[[], Any]] = {
                f"{name} inference": torch.inference_mode()(partial(copy.deepcopy(model).eval(), images)),
                f"{name} training": training_step(model.train(), images),
            }
            for run in both.values():
                run()
            row.peak_bytes, row.train_peak_bytes = (peak_memory(run, device) for run in both.values())
        except Exception as error:  # one body that cannot be measured is no reason to lose the others
            row.error = one_line(error)
            continue
        runs |= both
    with tqdm(total=args.repeats + 1, unit="turn", desc="measuring", disable=None) as bar:

        def on_turn() -> None:
            bar.update()

        times = time_in_turns(runs, device, args.repeats, on_turn)
    for key, elapsed in times.items():
        name, _, kind = key.rpartition(" ")
        rate = args.batch_size * 1e3 / statistics.median(one.wall for one in elapsed)
        setattr(rows[name], "throughput" if kind == "inference" else "train_throughput", rate)


def one_line(error: BaseException) -> str:
    """Says what went wrong in a line."""
    return f"{type(error).__name__}: {str(error).strip() or 'no reason given'}".splitlines()[0]


def write_reports(recipe: Config, rows: dict[str, Candidate], args: argparse.Namespace) -> list[Path]:
    """Writes the table, the figures and, where there is an accuracy, the picture; returns their paths."""
    folder, name = Path(recipe.work_dir), config_name(find_config(args.config))
    loop, size = recipe.train_cfg, image_size(recipe)
    length = f"{loop.max_epochs} epochs" if "max_epochs" in loop else f"{loop.max_iters} iterations"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = ("", ", 1 thread" if args.threads == 1 else f", {args.threads} threads")[device.type == "cpu"]
    body = recipe.model.backbone.type
    setting = f"{body}, {length}, seed {(recipe.get('randomness') or {}).get('seed')}, {size[0]}x{size[1]} pixels"
    measured = f"batch {args.batch_size} in float32 on {device_name(device)}{threads}"
    report = {
        "config": name,
        "setting": setting,
        "measured": measured,
        "versions": library_versions(),
        "contenders": [dataclasses.asdict(row) for row in rows.values()],
    }
    text = f"""# Token mixers compared: {name}

{setting}, one run each.

Accuracy is on the validation images: after the last epoch, and the best of all evaluations, which also chose it.
Throughput and memory (what tensors hold beyond weights and images): {measured}.
MACs are multiply-accumulates of one image; FLOPs are twice as many.

{comparison_table(list(rows.values()))}

![Accuracy against cost](comparison.png)
"""
    written = [write_json(folder / "comparison.json", report), write_bytes(folder / "comparison.md", text.encode())]
    if any(row.top1 is not None for row in rows.values()):
        title = f"Token mixers in one body: {name}"
        written.append(draw_comparison(list(rows.values()), folder / "comparison.png", title, f"{setting}; {measured}"))
    return written


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code: 1 where a mixer failed."""
    args = parse_args(argv)
    started = False
    with user_errors(over=lambda: started) as outcome:
        recipe = recipe_from(args)
        cfgs = {name: with_mixer(recipe, name) for name in dict.fromkeys(args.mixers)}
        started = True
        rows = {name: Candidate(name) for name in cfgs}
        threads = torch.get_num_threads()
        for place, (name, cfg) in enumerate(cfgs.items()):
            print(f"[{place + 1}/{len(cfgs)}] {name}", flush=True)
            row = rows[name]
            try:
                check_config(cfg)
                result = train(cfg, args.retrain)
            except Preempted as stop:
                print(f"Stopped while {name} was trained; the same command goes on.", file=sys.stderr)
                return int(stop.code or EXIT_PREEMPTED)
            except Exception as error:  # one mixer that fails is no reason to lose the others
                row.error = one_line(error)
                print(f"{name} failed: {row.error}", file=sys.stderr)
                continue
            finally:
                gc.collect()  # a Runner and its hooks know each other
            row.seconds = result["seconds"]
            row.top1 = result["metrics"].get("top1")
            row.best_top1 = result["best"].get("top1", {}).get("value", row.top1)
        try:
            measure({name: cfg for name, cfg in cfgs.items() if rows[name].error is None}, rows, args)
        finally:
            torch.set_num_threads(threads)
        written = write_reports(recipe, rows, args)
        print(comparison_table(list(rows.values())))
        print("\n".join(map(str, written)))
        if any(row.error for row in rows.values()):
            outcome.code = 1
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
