"""Command-line arguments that several tools share, and reporting of user errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

    from attnzoo.zoo.model_loading import LoadedModel

EXIT_USER_ERROR = 2  # the same as argparse


class UserError(ValueError):
    """A user's mistake, which is reported without a traceback."""


@dataclass
class Outcome:
    """Exit code of a tool."""

    code: int = 0


@contextmanager
def user_errors(over: Callable[[], bool] = lambda: False) -> Iterator[Outcome]:
    """Reports a ValueError or OSError as one line on stderr and sets exit code 2.

    Such an exception is a user's mistake only while a tool reads its input and builds; during a training it keeps its
    traceback. With ATTNZOO_TRACEBACK=1 in the environment, every exception keeps its traceback.

    Args:
        over: Returns whether reading and building is over.

    Yields:
        The outcome, whose `code` the tool returns.
    """
    outcome = Outcome()
    try:
        yield outcome
    except (ValueError, OSError) as error:
        if over() or os.environ.get("ATTNZOO_TRACEBACK") == "1":
            raise
        if is_first_process():
            print(f"error: {error}", file=sys.stderr)
        outcome.code = EXIT_USER_ERROR


def is_first_process() -> bool:
    """Returns whether this is the only process, or the first of those that torchrun or srun started."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, --work-dir, --cfg-options and --launcher."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="path of a config, or name of a shipped one, such as nat_digits or nat/nat_mini_8xb128_300e_in1k",
    )
    parser.add_argument("--work-dir", help="output folder (default: work_dirs/<name of the config>)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings that override the config's: optim_wrapper.optimizer.lr=1e-3 train_dataloader.batch_size=64 "
        "'model.backbone.depths=[2,2]' custom_hooks.0.decay=0.999",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="how the processes of a distributed run were started: torchrun is pytorch (default: none)",
    )


def add_check_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --no-check."""
    parser.add_argument(
        "--no-check",
        action="store_false",
        dest="check",
        help="skip the checks of the config's keys, types and values, for code that they cannot follow",
    )


def check_from_arguments(args: argparse.Namespace, cfg: Config) -> None:
    """Checks the config of a command line; with --no-check, warns that this is skipped.

    Raises:
        ConfigError: If the config has mistakes.
    """
    from attnzoo.zoo.config import check_config

    if args.check:
        check_config(cfg)
    elif is_first_process():
        print("warning: --no-check: the keys, types and values of the config are not checked", file=sys.stderr)


def load_from_arguments(args: argparse.Namespace) -> Config:
    """Loads the config of a command line, with its options, work dir and launcher.

    Raises:
        ConfigError: If there is no such config, or an option does not fit.
    """
    from attnzoo.zoo.config import find_config, load_config

    cfg = load_config(args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / find_config(args.config).stem)
    cfg.launcher = args.launcher
    return cfg


def add_model_arguments(parser: argparse.ArgumentParser, size_default: str = "the model's") -> None:
    """Adds MODEL, --weights, --pretrained, --num-classes, --size and --cfg-options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model's name, such as nat_mini; hf-hub:owner/name; local-dir:folder; or a config, by path or name",
    )
    parser.add_argument("--weights", help="checkpoint in any published format: a file, a URL or hf-hub:owner/name")
    parser.add_argument(
        "--pretrained", action="store_true", help="load the published weights; MODEL must be a model name"
    )
    parser.add_argument(
        "--num-classes", type=int, help="number of classes; MODEL must be a model name (default: that of its weights)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help=f"image side, or height and width (default: {size_default})",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="settings of a config"
    )


def load_model_from_arguments(args: argparse.Namespace, on_meta: bool = False, **options: Any) -> LoadedModel:
    """Loads the model of a command line with `add_model_arguments`.

    Args:
        args: The command line.
        on_meta: Build the model on PyTorch's meta device, without values or weights.
        **options: Further arguments of `create_model`.

    Raises:
        ValueError: If there is no such model or config, or weights and model do not fit.
    """
    from attnzoo.zoo.model_loading import load_model

    return load_model(
        args.model,
        weights=args.weights,
        pretrained=args.pretrained,
        num_classes=args.num_classes,
        cfg_options=args.cfg_options,
        on_meta=on_meta,
        **options,
    )


def size_from_arguments(args: argparse.Namespace, default: tuple[int, int]) -> tuple[int, int]:
    """Returns height and width of --size in pixels.

    Raises:
        UserError: If --size has more than two numbers, or one below 1.
    """
    if args.size is None:
        return default
    if len(args.size) > 2 or min(args.size) < 1:
        raise UserError(f"--size takes one or two positive numbers, height and width, got {args.size}.")
    return args.size[0], args.size[-1]
