"""What the command lines of several tools share: arguments, and how a user's mistake is reported."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_USER_ERROR = 2  # as argparse itself


class UserError(ValueError):
    """A user's mistake outside a config; its message is all that needs to be said."""


@dataclass
class Outcome:
    """How a tool ends."""

    code: int = 0


@contextmanager
def user_errors() -> Iterator[Outcome]:
    """Reports a ValueError, or a missing file, as one line on stderr and sets exit code 2.

    Only what reads and builds belongs inside: an exception out of a running training is no user's mistake and keeps its
    traceback. With ATTNZOO_TRACEBACK=1 in the environment, every exception does.

    Yields:
        The outcome, whose `code` the tool returns.
    """
    outcome = Outcome()
    if os.environ.get("ATTNZOO_TRACEBACK") == "1":
        yield outcome
        return
    try:
        yield outcome
    except (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        print(f"error: {error}", file=sys.stderr)
        outcome.code = EXIT_USER_ERROR


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, --work-dir, --cfg-options and --launcher."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="path of a config, or name of a shipped one, such as nat_digits or nat/nat_mini_...",
    )
    parser.add_argument("--work-dir", help="folder for everything that is written (default: work_dirs/<config's name>)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="settings that override the config's: optim_wrapper.optimizer.lr=1e-3 train_dataloader.batch_size=64 "
        "'model.backbone.depths=[2,2]' param_scheduler.0.end=5",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="how the processes of a distributed run were started: torchrun is pytorch (default: none)",
    )
