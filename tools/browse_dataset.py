"""Plot transformed samples of a config's data set with their labels, boxes, masks or label maps."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.tools.arguments import UserError, add_config_arguments, load_from_arguments, user_errors

if TYPE_CHECKING:
    from mmengine.config import Config

SPLITS = ("train", "val", "test")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="browse_dataset",
        description="Plot samples of a config's data set after its transform, as the model gets them.",
        epilog="Augmentation that mixes the images of a batch (mixup, CutMix) is part of the model and is not plotted.",
    )
    add_config_arguments(parser)
    parser.add_argument("--split", choices=SPLITS, default="train", help="split to plot (default: train)")
    parser.add_argument("--count", type=int, default=16, help="number of samples (default: 16)")
    parser.add_argument("--seed", type=int, help="seed of selection and augmentation (default: the config's, or 0)")
    parser.add_argument("--epoch", type=int, default=1, help="epoch of the augmentation, >= 1 (default: 1)")
    parser.add_argument(
        "--original", action="store_true", help="also plot the original images, to the left of the samples"
    )
    parser.add_argument("--columns", type=int, default=4, help="samples per row (default: 4)")
    parser.add_argument(
        "--side", type=int, default=400, help="longest side of a sample in pixels, >= 100 (default: 400)"
    )
    parser.add_argument("--out", help="PNG to write (default: samples_<split>.png in the work dir)")
    return parser.parse_args(argv)


def build_dataset(cfg: Config, split: str, seed: int) -> Any:
    """Builds the data set of a config's data loader.

    Raises:
        ValueError: If the config has no data loader for the split, or the data do not exist.
    """
    from attnzoo.zoo.registry import DATASETS
    from attnzoo.zoo.training.loaders import with_seed

    loader = cfg.get(f"{split}_dataloader")
    if not loader or not loader.get("dataset"):
        available = ", ".join(name for name in SPLITS if cfg.get(f"{name}_dataloader")) or "none"
        raise UserError(f"The config has no {split}_dataloader. Available splits: {available}.")
    return DATASETS.build(with_seed(DATASETS, loader["dataset"], seed))


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.analysis.samples import choose_samples
    from attnzoo.zoo.files import write_bytes
    from attnzoo.zoo.plots.samples import draw_samples

    with user_errors() as outcome:
        for name in ("count", "columns", "epoch"):
            if getattr(args, name) < 1:
                raise UserError(f"--{name} must be >= 1, got {getattr(args, name)}.")
        if args.side < 100:
            raise UserError(f"--side must be >= 100 for labels to be readable, got {args.side}.")
        cfg = load_from_arguments(args)
        config_seed = (cfg.get("randomness") or {}).get("seed")
        seed = args.seed if args.seed is not None else config_seed if config_seed is not None else 0
        dataset = build_dataset(cfg, args.split, seed)
        indices = choose_samples(len(dataset), args.count, seed)
        content = draw_samples(dataset, indices, args.columns, args.side, args.original, args.epoch - 1)
        path = write_bytes(args.out or Path(cfg.work_dir) / f"samples_{args.split}.png", content)
        print(f"{path}: {len(indices)} of {len(dataset)} samples")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
