"""What the command lines of several tools share: arguments, and how a user's mistake is reported."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

EXIT_USER_ERROR = 2  # as argparse itself


class UserError(ValueError):
    """A user's mistake outside a config; its message is all that needs to be said."""


@dataclass
class Outcome:
    """How a tool ends."""

    code: int = 0


@contextmanager
def user_errors(over: Callable[[], bool] = lambda: False) -> Iterator[Outcome]:
    """Reports a ValueError, or a file that cannot be read, as one line on stderr and sets exit code 2.

    Only while a tool reads and builds is such an exception a user's mistake; out of a running training it keeps its
    traceback. With ATTNZOO_TRACEBACK=1 in the environment, every exception does.

    Args:
        over: tells whether reading and building is over.

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
    """Whether this is the only process, or the first of those that torchrun or srun started."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, --work-dir, --cfg-options and --launcher."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="path of a config, or name of a shipped one, such as nat_digits or nat/nat_mini_8xb128_300e_in1k",
    )
    parser.add_argument("--work-dir", help="folder for everything that is written (default: work_dirs/<config's name>)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings that go before the config's: optim_wrapper.optimizer.lr=1e-3 train_dataloader.batch_size=64 "
        "'model.backbone.depths=[2,2]' custom_hooks.0.decay=0.999",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="how the processes of a distributed run were started: torchrun is pytorch (default: none)",
    )


def load_from_arguments(args: argparse.Namespace) -> Config:
    """Loads the config that a command line names, with its options, work dir and launcher.

    Raises:
        ConfigError: there is no such config, or an option does not fit.
    """
    from attnzoo.zoo.config import find_config, load_config

    cfg = load_config(args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / find_config(args.config).stem)
    cfg.launcher = args.launcher
    return cfg
