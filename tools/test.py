"""Evaluates a checkpoint, or the published weights: writes results.json and predictions.json."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from attnzoo.tools.arguments import UserError, add_config_arguments, is_first_process, load_from_arguments, user_errors
from attnzoo.zoo.analysis.summary import count_parameters, describe_device, library_versions
from attnzoo.zoo.config import check_config, find_config
from attnzoo.zoo.config.loading import config_name
from attnzoo.zoo.config.parts import backbone_of, has_separate_heads
from attnzoo.zoo.data.common.checks import check_num_classes
from attnzoo.zoo.data.common.decoding import BrokenImageError
from attnzoo.zoo.evaluation import find_metric_info, result_configs
from attnzoo.zoo.files import write_json
from attnzoo.zoo.training import build_runner
from attnzoo.zoo.training.model_setup import unwrap_model
from attnzoo.zoo.weights import LoadReport, load_weights, weights_target
from attnzoo.zoo.work_dir import RESULTS, find_best

TRAINING_ONLY = (
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "auto_scale_lr",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
    "load_from",
    "resume",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="test",
        description="Evaluate a checkpoint, or the published weights, on a config's test data.",
        epilog="Written into the work dir: results.json (the figures in percent, images, checkpoint, model, config, "
        "seconds, library versions); of classifiers predictions.json (the best classes of every image); of detectors "
        "predictions.json (the best objects of every image) and coco.bbox.json and coco.segm.json, ready for COCO's "
        "server; of segmentors confusion.json (each class, and their confusion) and with --save-labels the label maps.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="a file in any published form, a URL, hf-hub:owner/name, or a work dir, whose best checkpoint is taken",
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="evaluate the published weights instead of CHECKPOINT"
    )
    parser.add_argument(
        "--raw", action="store_true", help="the trained weights even where a checkpoint has averaged ones"
    )
    parser.add_argument("--out", help="file for the results (default: results.json in the work dir)")
    parser.add_argument(
        "--confusion",
        action="store_true",
        help="also write confusion.json of a classifier: each class, their confusion",
    )
    parser.add_argument(
        "--save-labels",
        action="store_true",
        help="also write a segmentor's label maps into label_maps, one PNG an image",
    )
    args = parser.parse_intermixed_args(argv)
    if bool(args.checkpoint) == args.pretrained:
        parser.error("either CHECKPOINT or --pretrained is needed, and not both")
    return args


def find_checkpoint(given: str) -> str:
    """Finds the checkpoint that is meant: in a work dir the best one, or else the newest whole one.

    Raises:
        ValueError: the folder has none.
    """
    return str(find_best(given)) if Path(given).is_dir() else given


def config_from(args: argparse.Namespace) -> Config:
    """Loads the config and leaves in it what an evaluation needs.

    Raises:
        ConfigError: there is no such config, or an option does not fit.
        ValueError: the config has no test data, or there are no published weights to take.
    """
    cfg = load_from_arguments(args)
    if not cfg.get("test_dataloader") or not cfg.get("test_evaluator"):
        raise UserError(f"{args.config} has no test_dataloader or no test_evaluator: there is nothing to evaluate.")
    for key in TRAINING_ONLY:
        cfg.pop(key, None)
    cfg.custom_hooks = []
    cfg.test_cfg = cfg.get("test_cfg") or {"type": "TestLoop"}
    backbone = backbone_of(cfg.to_dict())
    if backbone is None:
        raise UserError("model.backbone: must be one of the zoo's backbones to be evaluated.")
    if args.pretrained and has_separate_heads(cfg.to_dict()):
        raise UserError(
            f"--pretrained means the published weights of a classifier; {args.config} has heads beside its backbone: "
            "give a CHECKPOINT that holds both."
        )
    model = cfg.model if backbone[0] == "model" else cfg.model.backbone
    model.update(pretrained=args.pretrained, checkpoint_path=None)
    cfg.model.pop("init_weights", None)  # is replaced by what is evaluated
    return cfg


def add_writers(cfg: Config, confusion: bool, save_labels: bool) -> None:
    """Makes the evaluation write its files into the work dir.

    Args:
        cfg: its test_evaluator is changed.
        confusion: also the confusion of a classifier's classes.
        save_labels: also a segmentor's label maps.
    """
    extras = {name for name, wanted in (("confusion", confusion), ("label_maps", save_labels)) if wanted}
    cfg.test_evaluator = result_configs(cfg.test_evaluator, cfg.work_dir, extras)


def load(model: Any, checkpoint: str | None, raw: bool) -> LoadReport:
    """Loads the weights to evaluate, if they were not loaded when the model was built.

    Args:
        model: the task.
        checkpoint: what `load_weights` takes; None for weights that are loaded already.
        raw: trained weights rather than averaged ones.

    Returns:
        What was loaded.

    Raises:
        ValueError: the weights do not fit, or have a head for other classes.
    """
    if checkpoint is not None:
        report = load_weights(weights_target(model), checkpoint, use_ema=False if raw else None)
    else:
        report = model.backbone.load_report
    if report.head_classes is not None:
        theirs, ours = report.head_classes
        raise UserError(
            f"The weights' head has {theirs} outputs, that of the config's model {ours}, so they tell other classes "
            f"apart ({model.classes_key}): with an untrained head there is nothing to evaluate."
        )
    return report


def results_of(
    figures: Mapping[str, Any], images: int, seconds: float, model: Any, report: LoadReport, args: argparse.Namespace
) -> dict[str, Any]:
    """Puts together what results.json holds.

    Args:
        figures: of the metrics.
        images: how many were evaluated.
        seconds: how long that took.
        model: the task.
        report: on the weights.
        args: the command line.
    """
    return {
        **{key: value for key, value in figures.items() if isinstance(value, int | float)},
        "images": images,
        "checkpoint": report.source.strip("'"),
        "averaged_weights": report.is_ema,
        "model": model.backbone.pretrained_cfg["architecture"],
        "parameters": count_parameters(model)[0],
        "config": config_name(find_config(args.config)),
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 2),
        "device": describe_device(),
        "versions": library_versions(),
    }


def headline(figures: Mapping[str, float]) -> dict[str, float]:
    """Chooses the metrics to print: those that their metric class calls headlines, and all that no class describes."""
    infos = {key: find_metric_info(key) for key in figures}
    return {
        key: value
        for key, value in figures.items()
        if isinstance(value, int | float) and ((info := infos[key]) is None or info.headline)
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    args = parse_args(argv)
    running = False
    with user_errors(over=lambda: running) as outcome:
        cfg = config_from(args)
        checkpoint = None if args.pretrained else find_checkpoint(args.checkpoint)
        check_config(cfg)
        add_writers(cfg, args.confusion, args.save_labels)
        runner = build_runner(cfg)
        model: Any = unwrap_model(runner.model)
        report = load(model, checkpoint, args.raw)
        runner.logger.info(str(report))
        loop: Any = runner.test_loop
        dataset = loop.dataloader.dataset
        check_num_classes(model.num_classes, dataset, model.classes_key)
        running, begin = True, time.perf_counter()
        try:
            figures = runner.test()
        except BrokenImageError:
            running = False  # the file's name says all
            raise
        seconds = time.perf_counter() - begin
        if is_first_process():
            results = results_of(figures, len(dataset), seconds, model, report, args)
            path = write_json(args.out or Path(cfg.work_dir) / RESULTS, results)
            told = ", ".join(f"{key} {value:.2f}" for key, value in headline(figures).items())
            print(f"{told} ({len(dataset)} images): {path}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
