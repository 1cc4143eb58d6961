"""Evaluate a checkpoint or the published weights, and write results.json and predictions.json."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attnzoo.tools.arguments import (
    add_check_argument,
    add_config_arguments,
    check_from_arguments,
    is_first_process,
    load_from_arguments,
    user_errors,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="test",
        description="Evaluate a checkpoint, or the published weights, on a config's test data.",
        epilog="The work dir gets results.json (metrics in percent, number of images, checkpoint, model, config, "
        "seconds, library versions). Classifiers: predictions.json with the best classes of every image. Detectors: "
        "predictions.json with the best objects of every image, and coco.bbox.json and coco.segm.json for COCO's "
        "server. Segmentors: confusion.json with the classes and their confusion, and with --save-labels label maps.",
    )
    add_config_arguments(parser)
    add_check_argument(parser)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="a file in any published format, a URL, hf-hub:owner/name, or a work dir, whose best checkpoint is used",
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="evaluate the published weights instead of CHECKPOINT"
    )
    parser.add_argument(
        "--raw", action="store_true", help="use the trained weights even if the checkpoint has averaged ones"
    )
    parser.add_argument("--out", help="file for the results (default: results.json in the work dir)")
    parser.add_argument(
        "--confusion",
        action="store_true",
        help="for classifiers, also write confusion.json with the classes and their confusion",
    )
    parser.add_argument(
        "--save-labels",
        action="store_true",
        dest="label_maps",
        help="for segmentors, also write label maps into label_maps, one PNG per image",
    )
    args = parser.parse_intermixed_args(argv)
    if bool(args.checkpoint) == args.pretrained:
        parser.error("pass either CHECKPOINT or --pretrained")
    return args


def find_checkpoint(path: str) -> str:
    """Returns the best checkpoint of a work dir, or else its newest valid one; returns other paths unchanged.

    Raises:
        ValueError: If the work dir has no valid checkpoint.
    """
    from attnzoo.zoo.work_dir import find_best

    return str(find_best(path)) if Path(path).is_dir() else path


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    from attnzoo.zoo.config import find_config
    from attnzoo.zoo.config.loading import config_name
    from attnzoo.zoo.data.common.checks import check_num_classes
    from attnzoo.zoo.data.common.decoding import BrokenImageError
    from attnzoo.zoo.evaluation import checkpoints, result_configs
    from attnzoo.zoo.files import write_json
    from attnzoo.zoo.folder_lock import RESULTS_LOCK, FolderLock
    from attnzoo.zoo.training import build_runner
    from attnzoo.zoo.training.model_setup import unwrap_model
    from attnzoo.zoo.work_dir import RESULTS

    running = False
    with ExitStack() as stack, user_errors(over=lambda: running) as outcome:
        cfg = checkpoints.evaluation_config(load_from_arguments(args), args.config, args.pretrained)
        check_from_arguments(args, cfg)
        checkpoint = checkpoints.fetch_published(cfg) if args.pretrained else find_checkpoint(args.checkpoint)
        extras = {name for name in ("confusion", "label_maps") if getattr(args, name)}
        cfg.test_evaluator = result_configs(cfg.test_evaluator, cfg.work_dir, extras)
        runner = build_runner(cfg)
        model: Any = unwrap_model(runner.model)
        report = checkpoints.load_evaluated_weights(model, checkpoint, args.raw)
        runner.logger.info(str(report))
        loop: Any = runner.test_loop
        dataset = loop.dataloader.dataset
        check_num_classes(model.num_classes, dataset, model.classes_key)
        if is_first_process():
            stack.enter_context(FolderLock(cfg.work_dir, RESULTS_LOCK, "Wait for it, or choose another --work-dir."))
        running, start = True, time.perf_counter()
        try:
            metrics = runner.test()
        except BrokenImageError:
            running = False  # the message names the file; a traceback adds nothing
            raise
        seconds = time.perf_counter() - start
        if is_first_process():
            config = config_name(find_config(args.config))
            results = checkpoints.evaluation_results(metrics, len(dataset), seconds, model, report, config)
            path = write_json(args.out or Path(cfg.work_dir) / RESULTS, results)
            values = ", ".join(f"{key} {value:.2f}" for key, value in checkpoints.headline_metrics(metrics).items())
            print(f"{values} ({len(dataset)} images): {path}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
