"""Fine-tuning from a folder of data to a predictor."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..config import check_config, load_config
from ..config.options import apply_options, parse_options
from ..inference import Predictor
from ..training import build_runner
from ..training.dry_run import dry_run as run_dry
from ..weights import DownloadError
from ..work_dir import CONFIG
from .options import Options
from .recipe import build_recipe
from .recognize import recognize
from .report import report


def default_work_dir(model: str, data: str | os.PathLike[str]) -> Path:
    """Returns the folder that a fine-tuning writes into by default: work_dirs/<model>_<data>."""
    parts = [model.rpartition(":")[2], Path(data).expanduser().resolve().name]
    return Path("work_dirs") / re.sub(r"[^\w.-]+", "-", "_".join(parts)).strip("-")


def finetune(
    model: str,
    data: str | os.PathLike[str],
    work_dir: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    resume: bool = False,
    cfg_options: Mapping[str, Any] | Sequence[str] = (),
    **choices: Any,
) -> Predictor:
    """Trains a model on your own data, from its published weights, and returns a predictor of the best checkpoint.

        predictor = attnzoo.finetune("nat_tiny", "photos/")
        predictor("new.jpg").name

    Args:
        model: Name of a model, with or without a tag of weights.
        data: Folder or file of the data set. Its format is recognized, see `attnzoo.zoo.data.formats`.
        work_dir: Folder for the config, checkpoints and plots. By default work_dirs/<model>_<data>.
        format: Name of a data format, if it is not recognized.
        resume: Continue from the newest checkpoint in the work dir, with the config that is there.
        cfg_options: Changes to the config: a dict by dotted key, or strings "key=value".
        **choices: See `Options`: epochs, image_size, batch_size, lr, layer_decay, ema, amp, patience, probe, freeze,
            weights, val_fraction, seed and workers. What is not given is chosen, and printed.

    Raises:
        ValueError: The model, the data or a choice is wrong.
        OSError: The weights cannot be downloaded or read.
    """
    folder = Path(work_dir) if work_dir is not None else default_work_dir(model, data)
    cfg = prepare(model, data, folder, format, resume, cfg_options, **choices)
    train(cfg)
    report(folder)
    return Predictor(folder)


def prepare(
    model: str,
    data: str | os.PathLike[str],
    work_dir: Path,
    format: str | None = None,
    resume: bool = False,
    cfg_options: Mapping[str, Any] | Sequence[str] = (),
    dry_run: bool = False,
    **choices: Any,
) -> Config:
    """Recognizes the data, chooses the settings, and prints both.

    Args:
        model: See `finetune`.
        data: See `finetune`.
        work_dir: Folder for the config, checkpoints and plots.
        format: See `finetune`.
        resume: See `finetune`.
        cfg_options: See `finetune`.
        dry_run: Also build everything, and run one training step and one evaluation batch.
        **choices: See `Options`.

    Returns:
        The checked config.
    """
    options = Options(**choices)
    if resume and (work_dir / CONFIG).is_file():
        cfg = load_config(work_dir / CONFIG)
        print(f"resuming with {work_dir / CONFIG}")
    else:
        own = recognize(data, format, options.val_fraction, options.seed)
        print("\n".join(own.summary()))
        cfg, settings = build_recipe(model, own, options, work_dir)
        print("\n".join(settings.summary()))
    cfg.resume = resume
    apply_options(cfg, dict(cfg_options) if isinstance(cfg_options, Mapping) else parse_options(cfg_options))
    check_config(cfg)
    if dry_run:
        run_dry(cfg)
    return cfg


def train(cfg: Config) -> None:
    """Trains with a config that `prepare` returned.

    Raises:
        DownloadError: The published weights cannot be downloaded; the message says what else can be done.
    """
    try:
        runner = build_runner(cfg)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nOr pass the path of a checkpoint as weights, or weights='none' to train from random weights."
        ) from error
    runner.train()
