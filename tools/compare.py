"""Compare token mixers in one body: train each with the same recipe and seed, and report accuracy and cost.

Finished training runs are not repeated, and interrupted ones are resumed, as long as the recipe is the same. If a mixer
fails, the failure is reported and the others continue. Throughput and memory are measured after all training runs, in
alternation, so that other load on the machine affects all mixers alike. The work dir gets comparison.md,
comparison.json, comparison.png, and a folder with the training run of each mixer.
"""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import gc
import sys
from typing import TYPE_CHECKING

from attnzoo.tools.arguments import UserError, add_config_arguments, load_from_arguments, user_errors

if TYPE_CHECKING:
    from mmengine.config import Config

    from attnzoo.zoo.analysis.comparison import Candidate


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="compare",
        description=first,
        epilog=rest + " Exit codes: 0 done; 1 a mixer failed; 2 a mistake in the command or config; 75 or 130 stopped "
        "by a signal: run the same command again to continue.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--mixers",
        nargs="+",
        metavar="MIXER",
        help="a token mixer, such as pool, or one per stage, separated by commas; docs/models.md lists them (default: "
        "all of attnzoo's)",
    )
    parser.add_argument(
        "--seed", type=int, help="seed of weights, data order, augmentation and drop path (default: the config's)"
    )
    parser.add_argument("--retrain", action="store_true", help="repeat finished training runs")
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch in measurements (default: 64)")
    parser.add_argument("--repeats", type=int, default=10, help="timed turns per model (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads in measurements on a CPU (default: 1)")
    return parser.parse_args(argv)


def load_recipe(args: argparse.Namespace) -> Config:
    """Loads and checks the config that all mixers are trained with.

    Raises:
        ValueError: If an argument or the config is wrong.
    """
    from attnzoo.backbones.metaformer import MIXERS
    from attnzoo.zoo.analysis.mixer_comparison import check_recipe

    for key in ("batch_size", "repeats", "threads"):
        if getattr(args, key) < 1:
            raise UserError(f"--{key.replace('_', '-')} must be >= 1, got {getattr(args, key)}.")
    if args.launcher != "none":
        raise UserError("A comparison runs in one process: --launcher must be none.")
    if args.mixers is None:
        args.mixers = list(MIXERS)
    recipe = load_from_arguments(args)  # its custom imports may register mixers
    if args.seed is not None:
        recipe.randomness = {**(recipe.get("randomness") or {}), "seed": args.seed}
    check_recipe(recipe, args.config, args.mixers)
    return recipe


def train_all(cfgs: dict[str, Config], candidates: dict[str, Candidate], retrain: bool) -> None:
    """Trains the mixers one after the other and fills in their results; a mixer that fails gets an error.

    Raises:
        Preempted: If a training was stopped by a signal.
    """
    from attnzoo.zoo.analysis.mixer_comparison import one_line, train_mixer
    from attnzoo.zoo.config import check_config
    from attnzoo.zoo.training import Preempted

    for place, (name, cfg) in enumerate(cfgs.items()):
        print(f"[{place + 1}/{len(cfgs)}] {name}", flush=True)
        candidate = candidates[name]
        try:
            check_config(cfg)
            outcome = train_mixer(cfg, retrain)
        except Preempted:
            print(f"Stopped while training {name}; run the same command again to continue.", file=sys.stderr)
            raise
        except Exception as error:  # the others can still be trained
            candidate.error = one_line(error)
            print(f"{name} failed: {candidate.error}", file=sys.stderr)
            continue
        finally:
            gc.collect()  # a Runner and its hooks are a reference cycle
        candidate.seconds = outcome["seconds"]
        candidate.top1 = outcome["metrics"].get("top1")
        candidate.best_top1 = outcome["best"].get("top1", {}).get("value", candidate.top1)


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    import torch

    from attnzoo.zoo.analysis.comparison import Candidate
    from attnzoo.zoo.analysis.mixer_comparison import MeasurementSettings, measure_mixers, with_mixer, write_comparison
    from attnzoo.zoo.config import find_config
    from attnzoo.zoo.config.loading import config_name
    from attnzoo.zoo.plots.comparison import comparison_table
    from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted

    started = False
    with user_errors(over=lambda: started) as outcome:
        recipe = load_recipe(args)
        cfgs = {name: with_mixer(recipe, name) for name in dict.fromkeys(args.mixers)}
        candidates = {name: Candidate(name) for name in cfgs}
        settings = MeasurementSettings(args.batch_size, args.repeats, args.threads)
        started = True
        try:
            train_all(cfgs, candidates, args.retrain)
        except Preempted as stop:
            return int(stop.code or EXIT_PREEMPTED)
        threads = torch.get_num_threads()
        try:
            trained = {name: cfg for name, cfg in cfgs.items() if candidates[name].error is None}
            measure_mixers(trained, candidates, settings)
        finally:
            torch.set_num_threads(threads)
        rows = list(candidates.values())
        written = write_comparison(recipe, config_name(find_config(args.config)), rows, settings)
        print(comparison_table(rows))
        print("\n".join(map(str, written)))
        if any(row.error for row in rows):
            outcome.code = 1
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
